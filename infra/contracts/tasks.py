"""Celery task and queue names. Brokers only carry wake-ups; arguments are ids."""

RUN_CYCLE = "trainer.run_cycle"  # (cycle_id): trainer-owned states of one cycle
SWEEP = "trainer.sweep"  # (): starts again what lost its worker, triggers what is due
SCORE = "trainer.score"  # (reward_model, path of a JSON file of conversations, here or in the artifact store)

CPU_QUEUE, GPU_QUEUE = "cpu", "gpu"  # one queue for each kind of machine: a worker says which it takes from
