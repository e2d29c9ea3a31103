"""Norse: backpropagation through time with SuperSpike, rate cross-entropy, Adam."""

import norse.torch as norse
import torch


def build(network: dict, images: torch.Tensor, labels: torch.Tensor):
    """A function that makes one training step."""

    def lif():
        # 0.9 of the membrane is kept per step: dt · tau_mem_inv = 0.1.
        return norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(100.0)), dt=0.001)

    layers: list[torch.nn.Module] = []
    if network["kind"] == "lenet":
        layers += [torch.nn.Conv2d(1, 12, 5), torch.nn.MaxPool2d(2), lif()]
        layers += [torch.nn.Conv2d(12, 64, 5), torch.nn.MaxPool2d(2), lif(), torch.nn.Flatten()]
        layers += [torch.nn.Linear(1024, 1024), lif(), torch.nn.Linear(1024, 10), lif()]
    else:
        images = images.flatten(1)
        for inputs, outputs in zip(network["sizes"][:-1], network["sizes"][1:], strict=True):
            layers += [torch.nn.Linear(inputs, outputs), lif()]
    net = norse.SequentialState(*layers)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        state, record = None, []
        for _ in range(network["steps"]):
            spikes, state = net(images, state)
            record.append(spikes)
        loss = sum(torch.nn.functional.cross_entropy(s, labels) for s in record) / len(record)
        loss.backward()
        optimizer.step()

    return step
