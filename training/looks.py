"""Looks at the held-out rows while a run trains: losses, condition gain, benefit, fidelity, sampled pictures.

A look changes nothing that is trained and draws nothing that a step draws.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel

from . import card, plots
from .base import Base
from .checkpoint import Trained
from .config import TrainConfig
from .connections import ControlledDenoiser
from .convergence import TIMES, benefit, condition_gain, find_convergence, fraction
from .data import Prepared
from .fidelity import Judge, drawn_columns, make_judge
from .loader import Sample, draws, held_out_samples
from .log import RunLog, read_log
from .own_pictures import probe_samples
from .sampling import round_trip, sample_pictures, start_noise
from .transforms import control_image, control_picture

BATCH = 16


class Looks:
    """The held-out set of a run, its fixed noise, and what does not change: base losses, floor and ceiling."""

    def __init__(
        self, base: Base, controlnet: ControlNetModel, prepared: Prepared, config: TrainConfig, run: Path, log: RunLog
    ):
        self.base, self.config, self.run, self.log = base, config, run, log
        self.condition = prepared.condition
        self.every = config.eval_every or max(1, config.steps // 20)
        self.began, self.spent = time.monotonic(), 0.0
        provenance = prepared.provenance()
        self.judge = make_judge(self.condition, provenance) if config.probes else "no probes are asked for"
        self.samples = self._held_out(prepared, drawn_columns(self.condition, provenance))
        if len(self.samples) < 2:
            log.say("fewer than two held-out rows: nothing is measured on them (--held-out)")
            return
        if not isinstance(self.judge, Judge):
            log.say(f"no fidelity: {self.judge}")
        self.control = np.stack([control_image(self.condition.kind, s.maps[self.condition.name]) for s in self.samples])
        self.guidance = config.guidance or base.guidance
        height, width = self.samples[0].image.shape[:2]
        own = config.probe_image
        self.own = probe_samples(own, self.condition, provenance, (width, height), config.seed) if own else []
        self._fix()

    def _held_out(self, prepared: Prepared, columns: tuple[str, ...]) -> list[Sample]:
        """The first rows by hash, of the commonest shape: they go through the networks in batches."""
        rows = prepared.selection.held_out
        rows = rows[np.argsort(rows["rank"], kind="stable")]
        if not len(rows):
            return []
        shapes = [tuple(shape) for shape in rows[["height", "width"]].tolist()]
        common = Counter(shapes).most_common(1)[0][0]
        chosen = rows[[shape == common for shape in shapes]][: max(self.config.eval_rows, self.config.probes)]
        return held_out_samples(prepared.dataset, {self.condition.name: self.condition}, chosen, columns)

    @torch.no_grad()
    def _fix(self) -> None:
        """Latents, prompts, noise, the base's own losses, and the pictures at the floor and at the ceiling."""
        seed, base = self.config.seed, self.base
        if self.config.unlock_decoder:  # the base as it was, also when the run goes on with a trained decoder
            base = Base(self.config.base, self.base.device, self.config.precision)
        rows = self.samples[: self.config.eval_rows]
        pixels = torch.from_numpy(np.stack([s.image for s in rows])).permute(0, 3, 1, 2).float() / 127.5 - 1
        shape = base.latent_shape(*pixels.shape[2:])
        rngs = [draws(seed, 0, sample.row, "look") for sample in rows]
        vae_noise = torch.from_numpy(np.stack([rng.standard_normal(shape, np.float32) for rng in rngs]))
        self.latents = base.encode_images(pixels, vae_noise)
        self.noise = torch.from_numpy(
            np.stack([rng.standard_normal((len(TIMES), *shape), np.float32) for rng in rngs])
        ).to(base.device)
        self.text = base.encode_prompts([sample.caption for sample in rows])
        self.base_losses = self._losses(ControlledDenoiser(base.unet, None), None)  # type: ignore[arg-type]
        self.probes = self.samples[: self.config.probes]
        self.shown = [*self.probes, *self.own]
        if not self.shown:
            return
        self.start = start_noise(base, [sample.row for sample in self.shown], seed, *pixels.shape[2:])
        prompt = self.config.probe_prompt
        self.prompts = [prompt or sample.caption for sample in self.shown]
        maps = [control_image(self.condition.kind, sample.maps[self.condition.name]) for sample in self.shown]
        self.shown_control = np.stack(maps)
        steps = self.config.probe_steps
        self.floor_pictures = sample_pictures(base, None, self.prompts, None, self.start, steps, self.guidance)
        if isinstance(self.judge, Judge):
            ceiling = round_trip(base, [sample.image for sample in self.probes])
            floor = self.floor_pictures[: len(self.probes)]
            self.floor = float(np.mean(self.judge.scores(floor, self.probes, self.condition.name)))
            self.ceiling = float(np.mean(self.judge.scores(ceiling, self.probes, self.condition.name)))

    def maybe(self, step: int, trained: Trained, first: bool = False, last: bool = False) -> None:
        """Look if it is time: at every so many steps, unless looking has had more than its share of the time."""
        if len(self.samples) < 2 or not (first or last or step % self.every == 0):
            return
        if any(line["step"] == step and "gain" in line for line in read_log(self.run)):
            return
        budget = self.config.probe_budget
        if budget and not (first or last) and self.spent > budget * (time.monotonic() - self.began):
            return
        started = time.monotonic()
        self.look(step, trained.average if trained.average is not None else trained.controlnet)
        self.spent += time.monotonic() - started

    def look(self, step: int, controlnet: ControlNetModel) -> None:
        """Measure now; write to the log, the curves and the probe grid."""
        denoiser = ControlledDenoiser(self.base.unet, controlnet).eval()
        control = self.control[: self.config.eval_rows]
        true = self._losses(denoiser, control)
        gain = condition_gain(self._losses(denoiser, np.roll(control, 1, axis=0)), true, self.base_losses)
        helped = benefit(true, self.base_losses)
        values = {
            "step": step,
            "held_out_loss": float(true.mean()),
            "base_loss": float(self.base_losses.mean()),
            "gain": gain.mean,
            "gain_error": gain.error,
            "benefit": helped.mean,
            "benefit_error": helped.error,
        }
        if self.shown:
            pictures = sample_pictures(
                self.base,
                controlnet,
                self.prompts,
                self.shown_control,
                self.start,
                self.config.probe_steps,
                self.guidance,
            )
            if isinstance(self.judge, Judge):
                judged = pictures[: len(self.probes)]  # a user's own have no true picture: they are shown only
                fidelity = float(np.mean(self.judge.scores(judged, self.probes, self.condition.name)))
                values |= {"fidelity": fidelity, "floor": self.floor, "ceiling": self.ceiling}
                values["fraction"] = fraction(fidelity, self.floor, self.ceiling)
                for name, score in self.judge.measure.others:
                    pairs = zip(judged, self.probes, strict=True)
                    found = [score(*self.judge.pair(p, s, self.condition.name)) for p, s in pairs]
                    values[name.replace(" ", "_")] = float(np.mean(found))
            self._draw(step, pictures)
        denoiser.train()
        self.log.write(values)
        self._report()
        card.write(self.run)
        said = ", ".join(f"{name} {values[name]:.3f}" for name in ("gain", "benefit", "fidelity") if name in values)
        self.log.say(f"step {step}, held out: {said}")

    @torch.no_grad()
    def _losses(self, denoiser: ControlledDenoiser, control: np.ndarray | None) -> np.ndarray:
        """Plain losses, float64 (rows, times)."""
        found = np.zeros((len(self.latents), len(TIMES)))
        for i, time_step in enumerate(TIMES):
            for first in range(0, len(self.latents), BATCH):
                rows = slice(first, first + BATCH)
                latents, noise = self.latents[rows], self.noise[rows, i]
                t = torch.full((len(latents),), time_step, device=self.base.device)
                noisy = self.base.add_noise(latents, noise, t).to(self.base.unet.dtype)
                maps = None if control is None else torch.from_numpy(control[rows]).to(self.base.device)
                with torch.autocast(self.base.device.type, self.base.unet.dtype, self.base.unet.dtype != torch.float32):
                    predicted = denoiser(noisy, t, self.text[rows], maps)
                error = predicted.float() - self.base.target(latents, noise, t)
                found[rows, i] = error.square().mean(dim=(1, 2, 3)).cpu().numpy()
        return found

    def _draw(self, step: int, pictures: list[np.ndarray]) -> None:
        maps = [control_picture(self.condition.kind, s.maps[self.condition.name]) for s in self.shown]
        rows = {
            "picture": [sample.image for sample in self.shown],
            self.condition.name: maps,
            "no control": self.floor_pictures,
            f"step {step}": pictures,
        }
        grid = plots.picture_grid(rows)
        plots.save_picture(grid, self.run / "probes" / f"{step:08d}.png")
        self.log.image("probes", grid, step)

    def _report(self) -> None:
        """``curves.png``, and ``convergence.json`` where fidelity is measured."""
        lines = read_log(self.run)
        plots.run_curves(lines, self.run / "curves.png")
        looked = [line for line in lines if "fraction" in line]
        found = find_convergence([line["step"] for line in looked], [line["fraction"] for line in looked])
        said = {"step": found.step, "sudden": found.sudden} if found else None
        if looked:
            (self.run / "convergence.json").write_text(json.dumps({"converged": said}) + "\n", encoding="utf-8")
