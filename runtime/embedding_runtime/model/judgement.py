"""A judge's score as nodes of a graph: of all words' logits the last token's for yes and no are left.

`engine/ending.py` does the same to the answers of a graph that has no such nodes.
"""

import numpy as np
import onnx
from onnx import numpy_helper

from embedding_runtime.model.heads import Head
from embedding_runtime.model.judging import Judge


def _ids(judge: Judge) -> list[int]:
    return [judge.yes] if judge.no is None else [judge.yes, judge.no]


def narrow(graph: onnx.GraphProto, logits: str, judge: Judge) -> bool:
    """Have the graph compute the two words' logits alone, [b, s, 1 or 2], in place; whether it does now.

    A vocabulary has a hundred thousand words, and what is multiplied for them is a tenth of a small model and
    most of its memory. That takes a plain product with weights, which nothing else reads.
    """
    product = next((node for node in graph.node if logits in node.output), None)
    if product is None or product.op_type != "MatMul" or any(logits in node.input for node in graph.node):
        return False
    weights = next((each for each in graph.initializer if each.name == product.input[1]), None)
    if weights is None:
        return False
    columns = np.ascontiguousarray(numpy_helper.to_array(weights)[:, _ids(judge)])
    product.input[1] = f"{weights.name}/judged"
    graph.initializer.append(numpy_helper.from_array(columns, product.input[1]))
    return True


def judged(head: Head, words: str, judge: Judge, *, narrowed: bool, out: str) -> None:
    """Make the score, [b, 1], of the words' logits, float32 [b, s, words]: of each text's last token yes less
    no. `narrowed`: there are logits of these two words alone.
    """
    if not narrowed:
        words = head.op("Gather", words, head.constant(np.array(_ids(judge), dtype=np.int64)), axis=2)
    last = head.pooled(words, "attention_mask", ["lasttoken"])
    if judge.no is None:
        head.op("Identity", last, out=out)
    else:
        head.op("MatMul", last, head.constant(np.array([[1], [-1]], dtype=np.float32)), out=out)
