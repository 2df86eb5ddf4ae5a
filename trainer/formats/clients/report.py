"""The conformance report: what each client will do with a file, with reasons, and what its numbers are like."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer.formats.base_layers import Given
from trainer.formats.clients.comfy import COMFYUI
from trainer.formats.clients.forge import FORGE
from trainer.formats.clients.invoke import INVOKEAI
from trainer.formats.clients.models import SD1, SD2, SDXL, TITLES, Model, model_of
from trainer.formats.clients.numbers import Numbers, measure
from trainer.formats.clients.pipelines import DIFFUSERS_CLIENT, rescaled, rescaled_once
from trainer.formats.clients.sdnext import SDNEXT, TE_OFF
from trainer.formats.clients.sheet import Group, Sheet
from trainer.formats.clients.swarm import SWARMUI
from trainer.formats.clients.verdict import LOADS, LOSSES, NOTHING, REFUSED, Client, Verdict
from trainer.formats.clients.webui import A1111
from trainer.formats.header import Header, TensorInfo, body_sha256, read_header, shown
from trainer.formats.kohya import DOWN, match
from trainer.formats.names import Split, split_names

CLIENTS: tuple[Client, ...] = (A1111, FORGE, COMFYUI, SDNEXT, INVOKEAI, SWARMUI, DIFFUSERS_CLIENT)
PRACTICE = "practice base: works only here"
DEMO = "lora-atelier-demo"
PROOF_SUFFIX = ".report.json"
_SAID = (
    ("ss_base_model_version", (("sdxl", SDXL), ("sd_v2", SD2), ("sd_v1", SD1))),
    (
        "modelspec.architecture",
        (("stable-diffusion-xl", SDXL), ("stable-diffusion-v2", SD2), ("stable-diffusion-v1", SD1)),
    ),
)


STRANGE = "its layers are those of no base that other programs know: it works only here"


@dataclass(frozen=True)
class Report:
    """What becomes of a file elsewhere.

    Attributes:
        base: the base that the verdicts are for.
        practice: whether the file is of the embedded base, which only this program has.
        fits: whether it fits a base that the clients know, or is of the embedded one.
        verdicts: a client each.
        numbers: None where they were not read.
        proof: what the export measured against the trained adapter, {} where that is not known.
        notes: what is true of the file in every client.
    """

    base: str
    practice: bool
    fits: bool
    verdicts: tuple[Verdict, ...]
    numbers: Numbers | None
    proof: Mapping[str, Any]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values, ready for JSON."""
        return {
            "base": self.base,
            "practice": self.practice,
            "fits": self.fits,
            "clients": [verdict.as_dict() for verdict in self.verdicts],
            "numbers": self.numbers.as_dict() if self.numbers else None,
            "proof": dict(self.proof),
            "notes": list(self.notes),
        }

    def measured(self) -> list[str]:
        """What was measured, a sentence each."""
        lines = []
        if self.numbers and self.numbers.values:
            found = self.numbers
            share = f"{found.tiny / found.values:.2%} of them so small that they lose digits (underflow)"
            lines.append(
                f"{found.values:,} numbers: {found.nan} NaN, {found.infinite} infinite, {found.zero} zero, {share}."
            )
        if self.numbers and self.numbers.energy:
            parts = ", ".join(f"{part.replace('_', ' ')} {share:.0%}" for part, share in self.numbers.energy.items())
            lines.append(f"Where its effect lies: {parts}.")
        if trip := self.proof.get("round_trip"):
            lines.append(
                f"Read back after export: {trip['layers']} layers, largest relative error {trip['largest_error']:.2g} "
                f"({trip['at']}); {trip['flushed']} numbers became 0."
            )
        return lines

    def warnings(self) -> list[str]:
        """A line for each client that does anything but load the file as it is; one for all where it fits no base."""
        if self.practice:
            return [PRACTICE]
        if not self.fits:
            return [STRANGE]
        return [f"{v.client}: {v.outcome}. {v.sentence}" for v in self.verdicts if v.outcome != LOADS]


def report(
    path: Path, numbers: bool = True, digest: str = "", given: Given | None = None, header: Header | None = None
) -> Report:
    """Judge a file.

    Args:
        path: of the file.
        numbers: whether to read its numbers, which takes about a second for 100 MB.
        digest: SHA-256 of its tensors, where it is known already.
        given: the base that clients have loaded; None for the one that takes most of the file.
        header: the file's, where it has just been read.

    Raises:
        UserError: the file is missing, is a pickle, or is not sound safetensors.
    """
    header, digest = header or read_header(path), digest or body_sha256(path)
    stored = header.metadata.get("sshs_model_hash")
    sheet = Sheet(path.stem, header.metadata, header.tensors, None if stored is None else stored == digest)
    return judge(sheet, measure(path, header) if numbers else None, _proof(path, digest), given)


def judge(
    sheet: Sheet,
    numbers: Numbers | None = None,
    proof: Mapping[str, Any] | None = None,
    given: Given | None = None,
) -> Report:
    """Judge a file of which the header is known, and perhaps the numbers, on a base."""
    model, fits = closest(sheet, [given.model] if given else [model_of(family) for family in TITLES])
    practice = bool(given and given.practice) or sheet.metadata.get("ss_base_model_version", "").startswith(DEMO)
    verdicts = tuple(_with_numbers(client.judge(sheet, model), numbers) for client in CLIENTS)
    if practice:
        verdicts = tuple(_practised(verdict) for verdict in verdicts)
    title = given.name if given else TITLES[model.family]
    base = "LoRA Atelier practice base" if practice else title
    notes = tuple(_notes(sheet, fits or practice, numbers, base))
    return Report(base, practice, fits or practice, verdicts, numbers, proof or {}, notes)


def closest(sheet: Sheet, models: Sequence[Model]) -> tuple[Model, bool]:
    """Return the base of these whose layers take most of the file's modules, and whether any do.

    Shapes decide; where two bases take as many, what the file says does.
    """
    split = split_names(sheet.tensors)
    counts = [_fitting(sheet, model, split) for model in models]
    said = said_family(sheet.metadata)
    best = max(range(len(models)), key=lambda index: (counts[index], models[index].family == said))
    return models[best], counts[best] > 0


def said_family(metadata: Mapping[str, str]) -> str | None:
    """The family that the metadata names; None for none or another."""
    for key, rows in _SAID:
        for beginning, family in rows:
            if metadata.get(key, "").lower().startswith(beginning):
                return family
    return SD2 if metadata.get("ss_v2") == "True" else None


def _fitting(sheet: Sheet, model: Model, split: Split) -> int:
    layers = {(layer.part, layer.path): layer for layer in model.layers}
    paths: dict[str, list[str]] = {}
    for part, path in layers:
        paths.setdefault(part, []).append(path)
    matched = match(sheet.tensors, paths, split)
    held: dict[str, dict[str, TensorInfo]] = {}
    for name, (module, role) in matched.roles.items():
        held.setdefault(module, {})[role] = sheet.tensors[name]
    groups = (Group(name, layers[matched.modules[name]], tensors) for name, tensors in held.items())
    return sum(group.kind is not None and group.fits for group in groups if not group.layer.norm)


def _practised(verdict: Verdict) -> Verdict:
    outcome = REFUSED if verdict.outcome == REFUSED else NOTHING
    return replace(verdict, outcome=outcome, sentence=PRACTICE, applied=0, reasons=(PRACTICE, *verdict.reasons))


def _with_numbers(verdict: Verdict, numbers: Numbers | None) -> Verdict:
    """Add what only the numbers tell."""
    if numbers is None or verdict.outcome in (NOTHING, REFUSED):
        return verdict
    if broken := numbers.nan + numbers.infinite:
        what = "it stops with a NansException" if verdict.client in ("A1111", "Forge") else "pictures come out black"
        reason = f"{broken} values are NaN or infinite: {what}."
        return replace(verdict, outcome=LOSSES, sentence=reason, reasons=(reason, *verdict.reasons))
    if numbers.values and not numbers.energy and not numbers.unmeasured:
        reason = "Every update is zero: it changes nothing."
        return replace(verdict, outcome=NOTHING, sentence=reason, applied=0, reasons=(reason, *verdict.reasons))
    strange = rescaled(numbers.alphas) if verdict.client == DIFFUSERS_CLIENT.name else []
    if strange:
        reason = f"{len(strange)} attention layers are scaled by the alpha of others ({strange[0]})."
        return replace(verdict, outcome=LOSSES, sentence=reason, reasons=(reason, *verdict.reasons))
    if numbers.text_share and any(TE_OFF in reason for reason in verdict.reasons):
        share = f"That is {numbers.text_share:.0%} of the adapter's energy."
        return replace(verdict, sentence=f"{verdict.sentence} {share}", reasons=(*verdict.reasons, share))
    return verdict


def _notes(sheet: Sheet, fits: bool, numbers: Numbers | None, base: str) -> list[str]:
    notes = []
    if not fits:
        notes.append(f"No module fits a known base; the table is for {base}, whose names are nearest.")
    bare = _bare(sheet)
    if bare:
        notes.append(
            f"{bare} modules store no alpha: every client takes a scale of 1 (alpha = rank), which is wrong if "
            "they were trained with another."
        )
    if sheet.hash_is_true is False:
        notes.append("The stored hash (sshs_model_hash) is not the file's; A1111 and Forge trust it.")
    if numbers and numbers.nan + numbers.infinite:
        first = shown(numbers.broken[0])
        notes.append(f"{numbers.nan} NaN and {numbers.infinite} infinite values, the first in {first}: not drawn here.")
    if numbers and numbers.text_share:
        notes.append(
            f"{numbers.text_share:.0%} of its energy lies in the text encoder, which SD.Next leaves out as installed."
        )
    if numbers and (off := rescaled_once(ranks := _ranks(sheet), numbers.alphas)):
        notes.append(
            f"Its ranks differ: diffusers 0.32, and no other release, scales {len(off)} of its layers by 1 and not by "
            f"alpha / rank. atelier resize --rank {max(ranks.values())} fills the ranks up where that matters and the "
            "file does not become far larger."
        )
    return notes


def _ranks(sheet: Sheet) -> dict[str, int]:
    """The rank of every module of a LoRA in kohya's form."""
    ends = ((name, info.shape) for name, info in sheet.tensors.items() if name.endswith(DOWN) and info.shape)
    return {name.removesuffix(DOWN): shape[0] for name, shape in ends}


def _bare(sheet: Sheet) -> int:
    modules = {name.removesuffix(".lora_down.weight") for name in sheet.tensors if name.endswith(".lora_down.weight")}
    return sum(f"{module}.alpha" not in sheet.tensors for module in modules)


def _proof(path: Path, digest: str) -> dict[str, Any]:
    """What the export measured, if it is beside the file and of the same weights."""
    try:
        found = json.loads(path.with_suffix(PROOF_SUFFIX).read_text("utf-8"))
    except (
        OSError,
        ValueError,
        RecursionError,
    ):  # it is not there, or somebody else's; the file is judged all the same
        return {}
    same = isinstance(found, dict) and found.get("hash") == digest
    return {key: value for key, value in found.items() if key != "hash"} if same else {}
