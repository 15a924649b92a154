"""What one trial holds of the machine: CPUs and GPUs, by the size of the model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import AfterValidator, Field

from cluster.capacity import TrialResources, accelerator_resource
from orchestrator.study_file.axes import shown
from orchestrator.study_file.validation import Spec, checked
from orchestrator.study_file.yaml_lines import Document

__all__ = ["ResourceRule", "Resources"]


ANY_SHARE = 0.001
"""How much of a node's model of GPU a worker holds: it is there to be asked for, not used up."""
CUSTOM_NAME = re.compile(r"(?!(CPU|GPU|memory|object_store_memory)$)[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class ResourceRule:
    """What a trial holds for models up to a size."""

    cpus: float
    """CPU cores of each worker, above 0; a share of one is allowed."""
    gpus: float
    """GPUs of the trial: 0, a share of one in (0, 1), or a whole number (Ray's rule)."""
    workers: int = 1
    """Processes that train each cell together; as many as GPUs where these are several."""
    accelerator_type: str | None = None
    """Ray's name of the GPU's model, as 'A100'; None: any."""
    custom: Mapping[str, float] = field(default_factory=dict)
    """Custom resources that each worker holds, by name."""
    up_to_parameters: float | None = None
    """Parameters of the largest model that the rule covers, itself included; None: any."""

    def trial(self) -> TrialResources:
        """Return what a trial of such a model holds."""
        named = dict(self.custom)
        if self.accelerator_type is not None:
            named[accelerator_resource(self.accelerator_type)] = ANY_SHARE
        return TrialResources(
            cpus=self.cpus,
            gpus=self.gpus / self.workers,
            workers=self.workers,
            named=tuple(sorted(named.items())),
        )


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Rules by parameter count."""

    rules: tuple[ResourceRule, ...] = (ResourceRule(cpus=1, gpus=0),)
    """At least one; bounds rise strictly, and only the last rule has none."""

    def for_parameters(self, count: int) -> TrialResources:
        """Return what a trial holds for a model of `count` parameters."""
        return self.rule_for(count).trial()

    def rule_for(self, count: int) -> ResourceRule:
        """Return the first rule that covers a model of `count` parameters."""
        return next(
            rule
            for rule in self.rules
            if rule.up_to_parameters is None or count <= rule.up_to_parameters
        )

    @classmethod
    def from_document(cls, document: Document) -> "Resources":
        """Return what stands under `resources`: one rule, or a list of rules.

        Raises `StudyFileError`, with the line, unless the bounds rise and the last rule has none.
        """
        stated = document.value.get("resources", {"cpus": 1, "gpus": 0})
        if isinstance(stated, dict):
            rules = [_rule(document, stated)]
        elif isinstance(stated, list) and stated:
            rules = [_rule(document, item, position) for position, item in enumerate(stated)]
        else:
            raise document.error(
                ("resources",),
                f"resources is {shown(stated)}; allowed: {{cpus: 1, gpus: 0}}, or a list of such "
                "rules with up_to_parameters.",
            )
        smallest = 0.0
        for position, rule in enumerate(rules):
            last = position == len(rules) - 1
            bound = rule.up_to_parameters
            if (bound is None) is not last or not (bound is None or bound > smallest):
                raise document.error(
                    ("resources", position),
                    f"resources: rule {position + 1} of {len(rules)} has up_to_parameters "
                    f"{'unstated' if bound is None else format(bound, 'g')}; allowed: a bound that "
                    "rises from rule to rule, and none on the last. Sort the rules.",
                )
            smallest = bound or smallest
        return cls(rules=tuple(rules))


def _share_or_whole(value: float) -> float:
    if 0 < value < 1e-4 or (value > 1 and not value.is_integer()):
        raise ValueError(value)
    return value


def _names_a_model(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        raise ValueError(value)
    return value


def _custom(values: dict[str, float]) -> dict[str, float]:
    if not all(
        CUSTOM_NAME.fullmatch(name) and 1e-4 <= held <= 1e6 for name, held in values.items()
    ):
        raise ValueError(values)
    return values


class _RuleSpec(Spec):
    cpus: float = Field(ge=1e-4, le=1e6, description="a number of CPU cores in [0.0001, 1e6]")
    gpus: Annotated[float, AfterValidator(_share_or_whole)] = Field(
        ge=0, le=1e6, description="0, a share of a GPU in [0.0001, 1), or a whole number of GPUs"
    )
    workers: int | None = Field(
        default=None, ge=1, le=4096, description="a whole number of workers in [1, 4096]"
    )
    accelerator_type: Annotated[str, AfterValidator(_names_a_model)] | None = Field(
        default=None, description="Ray's name of the GPU's model, as A100 or T4"
    )
    custom: Annotated[dict[str, float], AfterValidator(_custom)] = Field(
        default_factory=dict,
        description="a mapping from names of custom resources, not CPU or GPU, to numbers in "
        "[0.0001, 1e6]",
    )
    up_to_parameters: float | None = Field(
        default=None, ge=1, le=1e18, description="a number of parameters in [1, 1e18]"
    )


def _rule(document: Document, values: object, *position: int) -> ResourceRule:
    spec = checked(_RuleSpec, values, document, ("resources", *position))
    one_a_gpu = max(1, int(spec.gpus))
    workers = spec.workers or one_a_gpu
    if spec.gpus and workers != one_a_gpu:
        raise document.error(
            ("resources", *position, "workers"),
            f"resources: workers is {workers} for {spec.gpus:g} GPU{'s' * (spec.gpus != 1)}; "
            "allowed: one worker a GPU, or any number of workers without GPUs. Leave workers out.",
        )
    if spec.accelerator_type is not None and not spec.gpus:
        raise document.error(
            ("resources", *position, "accelerator_type"),
            f"resources: accelerator_type is {spec.accelerator_type!r}, but gpus is 0; allowed: "
            "only where there are GPUs. Set gpus, or remove it.",
        )
    return ResourceRule(
        cpus=spec.cpus,
        gpus=spec.gpus,
        workers=workers,
        accelerator_type=spec.accelerator_type,
        custom=spec.custom,
        up_to_parameters=spec.up_to_parameters,
    )
