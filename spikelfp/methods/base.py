"""Methods of training: where the credit of a batch comes from; and the batch that they learn from."""

from __future__ import annotations

import hashlib
import inspect
import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.errors import UserError
from spikelfp.functional.sequence import sample_slice, time_slice
from spikelfp.options import call_of, option
from spikelfp.registry import Registry
from spikelfp.rules import Composite, Epsilon, Rule

if TYPE_CHECKING:
    from spikelfp.tasks import Task
    from spikelfp.training.parallel import World


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples that are shown to the network, and their targets.

    Attributes:
        sequence: inputs ``[T, B, …]``, dense or a coalesced sparse COO tensor.
        targets: targets of the samples, ``[B, …]``.
        mask: boolean ``[T, B]``, the steps that are rewarded and read out; ``None`` for all steps. Other steps do not
            count: means are taken over the steps of each sample that count, then over the batch.
        share: factor of the mean over these samples. For a part of a larger batch it is the share of that part, so that
            the updates of all parts add up. For ``reduction="sum"`` it is multiplied by the size of the larger batch.
        steps: for a chunk, the number of steps of the whole sequences that count: ``[B]``, or one number for all;
            ``None`` for whole sequences. Updates and watched means of the chunks add up.
        indices: int64 ``[B]``, numbers of the samples in the original data set; ``None`` where they are unknown, as for
            a ``DataLoader``.
    """

    sequence: Tensor
    targets: Tensor
    mask: Tensor | None = None
    share: float = 1.0
    steps: Tensor | int | None = None
    indices: Tensor | None = None

    @property
    def counted(self) -> Tensor | int:
        """Number of steps here that count: ``[B]``, or one number without a mask."""
        return len(self.sequence) if self.mask is None else self.mask.sum(0)

    @cached_property
    def _counting(self) -> list[bool]:
        """Whether any sample counts at each step up to the last where one does; waits for the device."""
        if self.mask is None:
            return [True] * len(self.sequence)
        counting: list[bool] = self.mask.any(1).tolist()
        while counting and not counting[-1]:
            counting.pop()
        return counting

    def parts(self, count: int) -> list[Batch]:
        """Split the samples into ``count`` parts, which may be empty, and cut each after its last step that counts."""
        if count == 1:
            return [self]
        size, more = divmod(len(self.targets), count)
        parts, start = [], 0
        for number in range(count):
            end = start + size + (number < more)
            parts.append(self.samples(start, end)._trimmed())
            start = end
        return parts

    def samples(self, start: int, end: int) -> Batch:
        """Return the samples ``start`` to ``end - 1``."""
        return replace(
            self,
            sequence=sample_slice(self.sequence, start, end),
            targets=self.targets[start:end],
            mask=None if self.mask is None else self.mask[:, start:end],
            steps=self.steps[start:end] if isinstance(self.steps, Tensor) else self.steps,
            indices=None if self.indices is None else self.indices[start:end],
        )

    def chunks(self, steps: int | None) -> Iterator[Chunk]:
        """Split the steps into chunks; the last one may be shorter, and ends with the last step that counts.

        Args:
            steps: steps of a chunk; ``None``, or at least the number of all steps, for a single chunk.

        Yields:
            The chunks, in order.
        """
        if steps is None or len(self._counting) <= steps:
            yield Chunk(self if steps is None else self._trimmed(), counts=True, start=0, last=True)
            return
        total = len(self._counting)
        for start in range(0, total, steps):
            end = min(start + steps, total)
            mask = None if self.mask is None else self.mask[start:end]
            sequence = time_slice(self.sequence, start, end)
            batch = replace(self, sequence=sequence, mask=mask, steps=self.counted)
            yield Chunk(batch, any(self._counting[start:end]), start, end == total)

    def _trimmed(self) -> Batch:
        if self.mask is None or not len(self.targets) or len(self._counting) == len(self.sequence):
            return self
        end = len(self._counting)
        return replace(self, sequence=time_slice(self.sequence, 0, end), mask=self.mask[:end])


class Chunk(NamedTuple):
    """Consecutive steps of a batch.

    Attributes:
        batch: batch of these steps.
        counts: whether any of the steps counts.
        start: number of the first step in the whole batch.
        last: whether it is the last chunk of the batch.
    """

    batch: Batch
    counts: bool
    start: int
    last: bool


def within_chunk(sequence: Tensor, mask: Tensor | None, chunk: int | None) -> tuple[Tensor, Tensor | None]:
    """Take so many samples that their whole sequences need the memory of one chunk of the batch.

    Measurements besides training (spike rates, silent layers) then need no more memory than training.

    Args:
        sequence: ``[T, B, …]``.
        mask: boolean ``[T, B]``, or ``None``.
        chunk: steps of a chunk; ``None`` to take all samples.

    Returns:
        The first samples, at least one, and their mask.
    """
    if chunk is None:
        return sequence, mask
    count = max(1, sequence.shape[1] * chunk // max(len(sequence), 1))
    return sample_slice(sequence, 0, count), None if mask is None else mask[:, :count]


def counting_steps(sequence: Tensor, lengths: Tensor | None, last: int | None) -> Tensor | None:
    """Mark the steps of sequences that count.

    Args:
        sequence: ``[T, B, …]``.
        lengths: lengths of the sequences, ``[B]``; ``None`` where all have ``T`` steps.
        last: number of steps at the end of each sequence that count; ``None`` for all.

    Returns:
        Boolean ``[T, B]``, or ``None`` where all steps count.
    """
    steps, samples = sequence.shape[:2]
    if lengths is None:
        if last is None or last >= steps:
            return None
        lengths = torch.full((samples,), steps, device=sequence.device)
    number = torch.arange(steps, device=lengths.device).unsqueeze(1)
    mask: Tensor = number < lengths
    return mask if last is None else mask & (number >= lengths - last)


def step_weights(mask: Tensor, steps: Tensor | int | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weigh steps for a mean over each sample's own steps, then over the samples::

        weight[t, b] = mask[t, b] / (steps[b] · B)

    The weights of all chunks of a batch add up to 1.

    Args:
        mask: boolean ``[T, B]``, the steps that count.
        steps: number of steps of the whole sequences that count, ``[B]`` or one number; ``None`` for whole sequences.
        dtype: dtype of the weights.

    Returns:
        Weights ``[T, B]``.
    """
    own = mask.sum(0) if steps is None else steps
    return mask.to(dtype) / (own * mask.shape[1])


def mean_over_steps(values: Tensor, mask: Tensor | None = None, steps: Tensor | int | None = None) -> Tensor:
    """Take the mean over each sample's own steps, then over the samples.

    Args:
        values: ``[T, B, …]``.
        mask: boolean ``[T, B]``, the steps that count; ``None`` for all.
        steps: for a chunk, the number of steps of the whole sequences that count; the means of all chunks then add up
            to the mean of the whole.

    Returns:
        The mean, a scalar tensor.
    """
    if mask is not None:
        return (values.flatten(2).mean(-1) * step_weights(mask, steps, values.dtype)).sum()
    mean = values.mean()
    return mean if steps is None else mean * (len(values) / steps)


def check_object(name: str, value: Any, kind: type | tuple[type, ...], example: str) -> None:
    """Refuse what is no object of a kind, such as a name or a class; ``None`` stays.

    Args:
        name: of the argument.
        value: as given.
        kind: class, or several.
        example: call that makes such an object.

    Raises:
        UserError: with the example.
    """
    if value is not None and not isinstance(value, kind):
        raise UserError(f"{name} of a method is an object, such as {example}, got {value!r:.80}; names go to trainers")


REDUCTIONS = ("mean", "sum")
"""Ways to combine the updates of the samples of a batch."""

Reduction = Annotated[str, option("updates of the samples of a batch: their mean, or their sum", names=REDUCTIONS)]


class Method:
    """Base of the methods: fills ``p.grad`` of every parameter from one batch, for an optimiser that descends it.

    A method of your own derives from this class and overrides one of two functions: :meth:`backward`, which makes the
    updates from the outputs of the whole network; or :meth:`learn`, which also runs the network forward. Attributes
    that are tensors or random generators are the state of the method, which checkpoints keep.

    The attributes of a class may also be given where it is registered, ``@methods.register(name, …)``.

    Attributes:
        name: name in checkpoints and tables; by default that of the class.
        rule: rule of the layers without their own rule, while this method trains them; by default LFP-ε with messages
            that pass through the statistics of normalisation layers.
        reduction: whether the updates of a batch are averaged, ``"mean"``, or added up, ``"sum"``.
        objective: whether the method ascends a ``"reward"`` or descends a ``"loss"`` of the outputs.
        gradient: whether the update is the derivative of a loss, sent back through the whole network.
        surrogate: whether spikes have a surrogate derivative.
        default_lr: learning rate on the command line, with an optimiser that adapts its steps.
        words: name of the method in plain words, for reports.
        recomputes: whether it can train a network that runs in parts which are recomputed (``recompute``).
        by_steps: whether it runs a network one step at a time by itself, so that there are no chunks.
        reward: reward of the outputs that it ascends; ``None`` where it has none.
        loss: loss of the outputs that it descends; ``None`` where it has none, or takes that of the task.
        watches_loss: whether the values to watch that it returns hold the loss; it need not be said by a method with a
            :attr:`gradient` or a :attr:`loss` (:attr:`returns_loss`).
        by_integrators: whether it reads leaky integrators: a model that has a choice then ends in them on the command
            line, unless told otherwise.
        within_batch: whether it updates the weights several times in a batch (:meth:`update_by`).
    """

    name: str
    rule: Rule | Composite = Epsilon().for_method()
    reduction: str = "mean"
    objective: Literal["reward", "loss"] = "reward"
    gradient: bool = False
    surrogate: bool = False
    default_lr: ClassVar[float] = 3e-3
    words: ClassVar[str] = ""
    recomputes: ClassVar[bool] = True
    reward: Any = None
    loss: Any = None
    watches_loss: bool = False
    by_integrators: ClassVar[bool] = False
    within_batch: bool = False

    @property
    def by_steps(self) -> bool:
        return False

    @property
    def returns_loss(self) -> bool:
        """Whether the values to watch hold the loss: those of methods that say so, and of all that descend one."""
        return self.watches_loss or self.gradient or self.loss is not None

    @property
    def runs_network(self) -> bool:
        """Whether it runs the network by itself (a ``learn`` of its own): workers then hand it the plain network."""
        return type(self).learn is not Method.learn

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        inherited = getattr(cls, "name", None)
        if inherited is None or any(inherited == base.__name__ for base in cls.__mro__[1:]):  # nobody chose it
            cls.name = cls.__name__

    def __repr__(self) -> str:
        """Write the call that makes the method, such as ``LFP(reward=Softmax(), rule=Epsilon())``."""
        return call_of(self)

    def suit(self, net: Module, task: Task) -> None:
        """Decide what the arguments have left open, by the network and the task.

        Trainers call it first of all, before they look at :attr:`rule` and the other attributes. By default it does
        nothing.

        Args:
            net: the network.
            task: the task.

        Raises:
            UserError: for a network or a task that the method cannot train.
        """

    def begin_training(self, samples: str, drawn: bool) -> None:
        """Begin to train on a data set: trainers call it in each ``fit``. By default it does nothing.

        Args:
            samples: fingerprint of the data set; empty where it has none, such as a ``DataLoader``.
            drawn: whether chance draws the inputs of a sample anew in every epoch.

        Raises:
            UserError: for data that the method cannot train on.
        """

    def begin_update(self) -> None:
        """Begin an update: trainers call it before the first part of a batch. By default it does nothing."""

    def update_by(self, update: Callable[[], None] | None) -> None:
        """Take the function that steps from ``p.grad`` in the course of a batch, of methods that ask for it.

        Trainers hand it over before each batch where :attr:`within_batch` is true. It checks and clips the gradients,
        steps by the optimiser, and sets them to 0. By default it is not used.

        Args:
            update: the function; ``None`` when the batch is over.
        """

    def end_update(self, world: World) -> None:
        """End an update: trainers call it after the step of the optimiser, which an error may have prevented.

        State that depends on the samples of a worker is brought together here. By default it does nothing.

        Args:
            world: the workers, all of which call it.
        """

    def prepare(self, net: Module) -> None:
        """Make tensors that the method needs besides the network, such as feedback weights.

        Trainers call it once, before the first step. Random numbers drawn here depend on the trainer's seed, and change
        no others. By default it does nothing.

        Args:
            net: the network, on its device.
        """

    def learn(self, net: Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the network on a batch and add ``batch.share`` times the mean update over it to ``p.grad``.

        Trainers call it within :func:`spikelfp.rules.lending`, so that layers without their own rule follow
        :attr:`rule`. By default the network runs as a whole, and :meth:`backward` starts from its outputs. With several
        workers each has a slice of the batch; a method with its own ``learn`` gets the plain network, and its updates
        are averaged afterwards.

        Args:
            net: function from a sequence to outputs ``[T, B, …]``: the network, or, with ``chunk`` or ``recompute``, a
                module around it, with the network as ``net.net``. A call on a chunk starts from the states after the
                chunk before.
            batch: a batch, a part of its samples, or a chunk of its steps.

        Returns:
            The outputs ``[T, B, …]``, and values to watch as scalar tensors: means over these samples, without the
            factor ``share``.
        """
        outputs = net(batch.sequence)
        options: dict[str, Any] = {"mask": batch.mask, "steps": batch.steps}
        options = {name: value for name, value in options.items() if value is not None}
        return outputs, self.backward(outputs, batch.targets, batch.share, **options)

    def backward(
        self,
        outputs: Tensor,
        labels: Tensor,
        share: float = 1.0,
        mask: Tensor | None = None,
        steps: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """Add ``share`` times the mean update over the batch to ``p.grad``, starting from the outputs.

        Args:
            outputs: ``[T, B, C]``, with their graph.
            labels: targets of the samples, ``[B, …]``.
            share: factor of the mean (:class:`Batch`).
            mask: boolean ``[T, B]``, the steps that count; passed only where not all steps count.
            steps: number of steps of the whole sequences that count; passed only for a chunk.

        Returns:
            Values to watch, as :meth:`learn` returns them.

        Raises:
            UserError: in a class that overrides neither this nor :meth:`learn`.
        """
        raise UserError(
            f"{type(self).__name__} does not say how it learns: give it learn(net, batch), or backward(outputs, "
            "labels, share)"
        )

    def at(self, step: int) -> Method:
        """Return the method of step ``step`` of a run, counted from 0; by default this one."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """Copy what a checkpoint keeps of the method: tensors, numbers, texts, and dicts and lists of them.

        By default these are its attributes that are tensors, random generators or dicts of tensors. Arguments of the
        constructor are left out, since a checkpoint compares them, and so are names that begin with ``_``. A method
        with other attributes that change, such as counters or lists, needs its own ``state_dict`` and
        :meth:`load_state_dict`; without them, trainers refuse to save it.
        """
        return {name: _kept(value) for name, value in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that :meth:`state_dict` returned; nothing changes where it does not fit.

        Args:
            state: state of a method with the same arguments.

        Raises:
            UserError: naming the first entry that is missing, or of another kind, shape or dtype.
        """
        own = self._state()
        for name in [*own, *state]:
            if name not in own or name not in state:
                raise UserError(f"{name} is {'missing' if name in own else 'not of this method'}")
            _check_fits(name, own[name], state[name])
        for name, value in state.items():
            current = own[name]
            if isinstance(current, torch.Generator):
                current.set_state(value[GENERATOR].cpu().contiguous())
            elif isinstance(current, Tensor):
                setattr(self, name, value.to(current.device, copy=True))
            else:
                setattr(self, name, {key: each.to(current[key].device, copy=True) for key, each in value.items()})

    def parts(self) -> list[Method]:
        """List the methods that this one is made of; by default itself."""
        return [self]

    def last_part(self) -> Method:
        """Return the method that trains at the end of a run; by default this one."""
        return self

    def _state(self) -> dict[str, Any]:
        made_with = inspect.signature(type(self).__init__).parameters
        return {name: value for name, value in vars(self).items() if name not in made_with and _is_state(value)}


GENERATOR = "torch.Generator"
"""Key under which the state of a random generator stands in a checkpoint, which checks it."""


def _is_state(value: Any) -> bool:
    if isinstance(value, dict) and value:
        return all(isinstance(key, str) and isinstance(each, Tensor) for key, each in value.items())
    return isinstance(value, (Tensor, torch.Generator))


class _Pickler(pickle.Pickler):
    """Pickler of values that are compared; modules and tensors of the network are left out, since they may change."""

    def __init__(self, file: io.BytesIO, net: Module) -> None:
        super().__init__(file)
        self.of_net = {*map(id, net.modules()), *map(id, net.parameters()), *map(id, net.buffers())}

    def persistent_id(self, value: Any) -> str | None:
        return "of the network" if isinstance(value, (Module, Tensor)) and id(value) in self.of_net else None


def unsaved_attributes(method: Method, net: Module) -> dict[str, bytes]:
    """Digest the attributes of a method that checkpoints do not keep, to find out later whether they have changed.

    Args:
        method: the method; parts with their own ``state_dict`` are left out.
        net: the network that it trains.

    Returns:
        Digests by attribute.
    """
    found = {}
    for part in method.parts():
        if type(part).state_dict is not Method.state_dict:
            continue
        made_with = inspect.signature(type(part).__init__).parameters
        for name, value in vars(part).items():
            cached = isinstance(getattr(type(part), name, None), cached_property)
            if name[0] == "_" or name in made_with or cached or _is_state(value):
                continue
            file = io.BytesIO()
            with suppress(Exception):  # some values cannot be pickled, such as local functions
                _Pickler(file, net).dump(value)
                found[f"{name} of {type(part).__name__}"] = hashlib.sha256(file.getvalue()).digest()
    return found


def check_unsaved(before: Mapping[str, bytes], now: Mapping[str, bytes]) -> None:
    """Refuse to save a method with a changed attribute that would be lost.

    Args:
        before: digests of :func:`unsaved_attributes` before training.
        now: digests now.

    Raises:
        UserError: naming the attribute.
    """
    for name, value in now.items():
        if before.get(name) != value:
            raise UserError(
                f"{name} has changed since training began, but a checkpoint would not keep it, so resumed training "
                "would differ: make it a tensor, a torch.Generator or a dict of tensors, give the method "
                "state_dict and load_state_dict, or let its name begin with _"
            )


def _kept(value: Any) -> Any:
    if isinstance(value, torch.Generator):
        return {GENERATOR: value.get_state()}
    if isinstance(value, Tensor):
        return value.detach().clone()
    return {key: each.detach().clone() for key, each in value.items()}


def _check_fits(name: str, own: Any, saved: Any) -> None:
    """Raise :class:`~spikelfp.errors.UserError` unless a saved value can replace the value of the method."""
    if isinstance(own, torch.Generator):
        own = {GENERATOR: own.get_state()}
    if isinstance(own, Tensor) and isinstance(saved, Tensor):
        if own.shape != saved.shape or own.dtype != saved.dtype:
            raise UserError(
                f"{name} is {saved.dtype} of shape {list(saved.shape)} there, {own.dtype} of shape {list(own.shape)} "
                "here"
            )
    elif isinstance(own, dict) and isinstance(saved, Mapping) and own.keys() == saved.keys():
        for key in own:
            _check_fits(f"{name}[{key!r}]", own[key], saved[key])
    else:
        raise UserError(f"{name} is of another kind there, or has other entries")


methods: Registry[type[Method]] = Registry("method")
"""Methods by name; the parameters of their constructors are their options."""
