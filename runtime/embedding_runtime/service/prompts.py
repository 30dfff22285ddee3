"""Which of a model's prompts goes in front of the texts of a request. Pure."""

from embedding_runtime.errors import InvalidRequestError
from embedding_runtime.model.recipe import Recipe

# Each stands for the prompts of these names, in this order.
_BY_INPUT_TYPE = {
    "query": ("query",),
    "document": ("document", "passage"),
    "passage": ("passage", "document"),
    "classification": ("classification", "Classification"),
    "clustering": ("clustering", "Clustering"),
    "similarity": ("similarity", "text-matching", "STS"),
}


def prompt(recipe: Recipe, prompt_name: str | None, input_type: str | None) -> str:
    """The text to put in front: the prompt that is named, the one for the type of input, the default.

    A model without a prompt for the type of input has none for it. Raises InvalidRequestError for a name that
    the model has no prompt of, and for an unknown type of input.
    """
    prompts = dict(recipe.prompts)
    if prompt_name is not None:
        if prompt_name in prompts:
            return prompts[prompt_name]
        has = "has the prompts " + ", ".join(prompts) if prompts else "has no prompts"
        raise InvalidRequestError(f"no prompt is named {prompt_name!r}: the model {has}", param="prompt_name")
    if input_type is None:
        return recipe.prompt
    if input_type not in _BY_INPUT_TYPE:
        raise InvalidRequestError(
            f"input_type {input_type!r} is none of {', '.join(_BY_INPUT_TYPE)}", param="input_type"
        )
    return next((prompts[name] for name in _BY_INPUT_TYPE[input_type] if name in prompts), "")
