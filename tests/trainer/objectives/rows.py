"""Every way to learn that the config offers, as a set of options each; what the CPU and the GPU are tested with."""

from trainer.contract.catalog import HUBER_SCHEDULES, LOSSES, TIMESTEPS, WEIGHTINGS

ROWS = {
    **{f"weighting={name}": {"weighting": name} for name in WEIGHTINGS if name != "none"},
    **{f"loss={name}": {"loss": name} for name in LOSSES if name != "l2"},
    **{f"huber_schedule={name}": {"loss": "huber", "huber_schedule": name} for name in HUBER_SCHEDULES},
    **{f"timesteps={name}": {"timesteps": name} for name in TIMESTEPS if name != "uniform"},
    "range": {"min_timestep": 0.3, "max_timestep": 700},
    "stratified": {"stratified": True},
    "noise_offset": {"noise_offset": 0.1},
    "pyramid": {"pyramid_iterations": 6},
    "input_perturbation": {"input_perturbation": 0.1},
    "prior=base": {"prior": "base"},
}
