"""One of several processes that train together: prints what all of them would see, as process 0."""

import json
import sys

import torch
import torch.distributed as dist

from trainer.data import draws
from trainer.data.order import Order
from trainer.device import Engine, processes
from trainer.pictures.buckets import Bucket
from trainer.pictures.epochs import Share, Turn

PICTURES = [Turn(Bucket(64, 64 + 32 * (place % 2)), 1 + place % 3) for place in range(30)]
PICTURES += [Turn(Bucket(64, 64), share=Share("small", 0.25))] * 3
STEPS = 40


def main() -> None:
    engine = Engine(torch.device("cpu"), torch.float32, 1)
    rank, count = processes(engine)
    order = Order(PICTURES, 2, 7, rank, count)
    seen = [order.batch(step) for step in range(STEPS)]
    times = [draws.uniform(7, draws.TIMESTEP, step, 2, order.first).tolist() for step in range(STEPS)]
    told: list = [None] * count
    dist.all_gather_object(told, (rank, torch.get_num_threads(), seen, times))
    if rank == 0:
        sys.stdout.write(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
