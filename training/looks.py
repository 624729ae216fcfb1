"""Looks at the held-out rows while a run trains: losses, condition gain, benefit, fidelity, sampled pictures.

A look changes nothing that is trained, draws nothing that a step draws, and leaves the process as it found it.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel

from controlmill.bases.controlnet import ControlledDenoiser
from controlmill.bases.stable_diffusion import Base
from controlmill.evaluation import plots
from controlmill.evaluation.convergence import TIMES, benefit, condition_gain, find_convergence, fraction
from controlmill.evaluation.fidelity import Judge, make_judge, stored_columns
from controlmill.evaluation.keypoints import within
from controlmill.evaluation.rows import Sample, draws
from controlmill.evaluation.sampling import BATCH, parts, round_trip, sample_pictures, start_noise
from controlmill.evaluation.user_pictures import probe_samples
from controlmill.schemas.errors import error_text
from controlmill.schemas.maps.transforms import augment, control_image, control_picture

from .config import TrainConfig
from .data.loader import held_out_samples
from .data.selection import common_shapes
from .run import card
from .run.checkpoint import Trained
from .run.log import RunLog, read_log
from .run.prepare import Prepared
from .undisturbed import undisturbed

MEASURED = ("step", "fraction", "gain", "gain_error")  # what tells convergence


class Looks:
    """The held-out set of a run, its fixed noise, and what does not change: base losses, floor and ceiling.

    ``batch`` is how many pictures a step's forward pass has room for.
    """

    def __init__(self, base: Base, prepared: Prepared, config: TrainConfig, run: Path, log: RunLog, batch: int):
        self.base, self.config, self.run, self.log = base, config, run, log
        self.batch = min(batch, BATCH)
        self.condition = prepared.condition
        self.every = config.evaluation_interval
        self.began = time.monotonic()
        self.looked = max((line["step"] for line in read_log(run) if "gain" in line), default=-1)
        with undisturbed(*self._of_base()):
            self._begin(prepared)
        self.spent = time.monotonic() - self.began

    def _of_base(self) -> tuple[torch.nn.Module, ...]:
        return self.base.unet, self.base.vae, self.base.text_encoder

    def _begin(self, prepared: Prepared) -> None:
        """Load the judge and the held-out rows, and measure what does not change."""
        config, base, log = self.config, self.base, self.log
        provenance = prepared.provenance()
        asked = config.evaluation_samples or config.evaluation_image
        judge = make_judge(self.condition, provenance, base.device, config.weights) if asked else None
        self.judge = judge or "no probes are asked for"
        self.samples = self._held_out(prepared, stored_columns(self.condition, provenance))
        if len(self.samples) < 2:
            log.say("fewer than two held-out rows: nothing is measured on them (--held-out)")
            return
        if not isinstance(self.judge, Judge):
            log.say(f"no fidelity: {self.judge}")
        self.control = np.stack([control_image(self.condition, s.maps[self.condition.table]) for s in self.samples])
        self.guidance = config.guidance_scale or base.guidance
        height, width = self.samples[0].image.shape[:2]
        own = config.evaluation_image
        self.own = probe_samples(own, self.condition, self.judge, (width, height), config.seed) if own else []
        budget = (
            f"at most {config.evaluation_budget:.0%} of the time"
            if config.evaluation_budget
            else "whatever time they take"
        )
        log.say(
            f"looks at {len(self.samples)} held-out rows: every {self.every} steps, {budget} (--evaluate-every, "
            "--evaluation-budget); first the base alone is measured"
        )
        self._fix()

    def _held_out(self, prepared: Prepared, columns: tuple[str, ...]) -> list[Sample]:
        """The first rows by hash, of one shape because they go through the networks in batches.

        That is the window's where a run cuts one, from the middle of each picture; else the commonest.
        """
        rows, side = prepared.selection.held_out, self.config.crop_size
        if not len(rows):
            return []
        if side:
            rows = rows[(rows["height"] >= side) & (rows["width"] >= side)]
        else:
            height, width = common_shapes(rows)[0]
            rows = rows[(rows["height"] == height) & (rows["width"] == width)]
        chosen = rows[np.argsort(rows["rank"], kind="stable")][
            : max(self.config.evaluation_rows, self.config.evaluation_samples)
        ]
        found = held_out_samples(prepared.dataset, {self.condition.table: self.condition}, chosen, columns)
        return [self._middle(sample, side) for sample in found] if side else found

    def _middle(self, sample: Sample, side: int) -> Sample:
        """A sample cut to the window around its middle, with the keypoints that are in it."""
        height, width = sample.image.shape[:2]
        top, left = (height - side) // 2, (width - side) // 2
        conditions = {self.condition.table: self.condition}
        image, maps = augment(sample.image, sample.maps, conditions, (top, left, side, side, False))
        columns = dict(sample.columns)
        if "keypoints" in columns:
            columns["keypoints"] = within(columns["keypoints"], left, top, side)
        return replace(sample, image=image, maps=maps, columns=columns)

    @torch.no_grad()
    def _fix(self) -> None:
        """Latents, prompts, noise, the base's own losses, and the pictures at the floor and at the ceiling."""
        seed, base = self.config.seed, self.base
        if self.config.unlock != "none":  # the base as it was, also when the run goes on with a trained one
            base = Base(self.config.base, self.base.device, self.config.precision)
        rows = self.samples[: self.config.evaluation_rows]
        base.unet.eval()
        height, width = rows[0].image.shape[:2]
        shape = base.latent_shape(height, width)
        latents, noise, text = [], [], []
        for part in parts(len(rows), self.batch):
            pixels = torch.from_numpy(np.stack([s.image for s in rows[part]])).permute(0, 3, 1, 2).float() / 127.5 - 1
            rngs = [draws(seed, 0, sample.row, "look") for sample in rows[part]]
            vae_noise = torch.from_numpy(np.stack([rng.standard_normal(shape, np.float32) for rng in rngs]))
            latents.append(base.encode_images(pixels, vae_noise))
            noise += [rng.standard_normal((len(TIMES), *shape), np.float32) for rng in rngs]
            text.append(base.encode_prompts([sample.caption for sample in rows[part]]))
        self.latents, self.text = torch.cat(latents), torch.cat(text)
        self.noise = torch.from_numpy(np.stack(noise)).to(base.device)
        self.base_losses = self._losses(ControlledDenoiser(base.unet, None), None)  # type: ignore[arg-type]
        self.probes = self.samples[: self.config.evaluation_samples]
        self.shown = [*self.probes, *self.own]
        if not self.shown:
            return
        self.start = start_noise(base, [sample.row for sample in self.shown], seed, height, width)
        prompt = self.config.evaluation_prompt
        self.prompts = [sample.caption if prompt is None else prompt for sample in self.shown]
        maps = [control_image(self.condition, sample.maps[self.condition.table]) for sample in self.shown]
        self.shown_control = np.stack(maps)
        self.floor_pictures = self._sampled(base, None)
        if self.probes and isinstance(self.judge, Judge):
            ceiling = round_trip(base, [sample.image for sample in self.probes], self.batch)
            floor = self.floor_pictures[: len(self.probes)]
            self.floor = self.judge.means(floor, self.probes, self.condition.table)["fidelity"]
            self.ceiling = self.judge.means(ceiling, self.probes, self.condition.table)["fidelity"]
            if math.isnan(self._fraction(self.ceiling, self.judge)):
                self.log.say(
                    f"fidelity tells nothing here: {self.judge.measure.name} is {self.ceiling:.3f} for true pictures "
                    f"through the VAE, no better than {self.floor:.3f} without control; f and convergence are not known"
                )

    def _fraction(self, fidelity: float, judge: Judge) -> float:
        return fraction(fidelity, self.floor, self.ceiling, judge.measure.lower_is_better)

    def _sampled(self, base: Base, controlnet: ControlNetModel | None) -> list[np.ndarray]:
        """The shown rows sampled, with their maps if there is a ControlNet."""
        control = None if controlnet is None else self.shown_control
        settings = self.start, self.config.sampling_steps, self.guidance, self.batch
        return sample_pictures(base, controlnet, self.prompts, control, *settings)

    def maybe(self, step: int, trained: Trained, first: bool = False, last: bool = False) -> None:
        """Look if it is time: at every so many steps, unless looking has had more than its share of the time.

        A look that fails is logged and the run goes on; not so the first one, which shows that settings are wrong.
        """
        if len(self.samples) < 2 or step == self.looked or not (first or last or step % self.every == 0):
            return
        budget = self.config.evaluation_budget
        if budget and not (first or last) and self.spent > budget * (time.monotonic() - self.began):
            return
        started = time.monotonic()
        self.log.say(f"step {step}: looking at {self.said()}")
        networks = [trained.controlnet] if trained.average is None else [trained.controlnet, trained.average]
        try:
            with undisturbed(*self._of_base(), *networks):
                self.look(step, networks[-1])
        except Exception as error:
            if first:
                raise
            said = error_text(error)
            self.log.say(f"step {step}: the look at held-out rows failed ({said}); the run goes on without it")
            self.log.write({"step": step, "look_failed": said})
        self.spent += time.monotonic() - started
        self.looked = step

    def look(self, step: int, controlnet: ControlNetModel) -> None:
        """Measure now; write to the log, the curves and the probe grid."""
        values = self._measured(step, ControlledDenoiser(self.base.unet, controlnet).eval(), controlnet)
        self.log.write(values)
        self._report()
        card.write(self.run)
        said = ", ".join(f"{name} {values[name]:.3f}" for name in ("gain", "benefit", "fidelity") if name in values)
        self.log.say(f"step {step}, held out: {said}")

    def said(self) -> str:
        """What a look takes in."""
        drawn = f", sampling {len(self.shown)} pictures of {self.config.sampling_steps} steps" if self.shown else ""
        return f"{len(self.latents)} held-out rows{drawn}"

    def _measured(self, step: int, denoiser: ControlledDenoiser, controlnet: ControlNetModel) -> dict[str, float]:
        """Numbers of a look; the probe grid is drawn on the way."""
        control = self.control[: self.config.evaluation_rows]
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
            pictures = self._sampled(self.base, controlnet)
            if self.probes and isinstance(self.judge, Judge):
                judged = pictures[: len(self.probes)]  # a user's own have no true picture: they are shown only
                values |= self.judge.means(judged, self.probes, self.condition.table)
                values |= {"floor": self.floor, "ceiling": self.ceiling}
                values["fraction"] = self._fraction(values["fidelity"], self.judge)
            self._draw(step, pictures)
        return values

    @torch.no_grad()
    def _losses(self, denoiser: ControlledDenoiser, control: np.ndarray | None) -> np.ndarray:
        """Plain losses, float64 (rows, times)."""
        found = np.zeros((len(self.latents), len(TIMES)))
        for i, time_step in enumerate(TIMES):
            for rows in parts(len(self.latents), self.batch):
                latents, noise = self.latents[rows], self.noise[rows, i]
                t = torch.full((len(latents),), time_step, device=self.base.device)
                noisy = self.base.add_noise(latents, noise, t).to(self.base.unet.dtype)
                maps = None if control is None else torch.from_numpy(control[rows]).to(self.base.device)
                with torch.autocast(self.base.device.type, self.base.dtype, self.base.dtype != torch.float32):
                    predicted = denoiser(noisy, t, self.text[rows], maps)
                error = predicted.float() - self.base.target(latents, noise, t)
                found[rows, i] = error.square().mean(dim=(1, 2, 3)).cpu().numpy()
        return found

    def _draw(self, step: int, pictures: list[np.ndarray]) -> None:
        maps = [control_picture(self.condition, s.maps[self.condition.table]) for s in self.shown]
        rows = {
            "picture": [sample.image for sample in self.shown],
            self.condition.table: maps,
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
        found = find_convergence(*([line[name] for line in looked] for name in MEASURED))
        said = {"step": found.step, "rise": found.rise} if found else None
        if looked:
            (self.run / "convergence.json").write_text(json.dumps({"converged": said}) + "\n", encoding="utf-8")
