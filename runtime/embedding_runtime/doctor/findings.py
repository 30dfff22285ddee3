"""What `doctor` finds, in sections. A problem keeps the server from starting or from becoming ready."""

from dataclasses import dataclass, field


@dataclass
class Section:
    """One heading with what is under it. `remarks` are worth knowing and keep nothing from working."""

    heading: str
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
