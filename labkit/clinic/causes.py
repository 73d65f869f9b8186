"""What can be wrong: the name of each cause in standard terms, why it matters, and its fix."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """A known mistake. `name` in standard terms, `why` it matters in one sentence, `fix` as code.

    `follows` names causes that it brings with it: symptoms, where this one is found as well.
    """

    name: str
    why: str
    fix: str
    follows: tuple[str, ...] = ()


_ALL = (
    Cause(
        "forward or loss raises an error",
        "Nothing else can be measured before a batch goes through the model and the loss.",
        "loss(model(x), y)  # with one batch, until it runs",
    ),
    Cause(
        "outputs or loss are not finite",
        "A NaN or an infinity reaches every weight within one step, and never leaves.",
        "torch.autograd.set_detect_anomaly(True)  # names the operation",
    ),
    Cause(
        "redundant softmax",
        "Cross-entropy applies its own log-softmax: the loss can't reach 0, and the gradient of a "
        "confidently wrong example almost vanishes.",
        "return logits  # instead of logits.softmax(1)",
        follows=("cannot overfit one batch",),
    ),
    Cause(
        "softmax over a single output",
        "One output divided by itself is 1: the model gives the same answer to everything.",
        "return logit  # with F.binary_cross_entropy_with_logits; or two outputs",
        follows=("cannot overfit one batch", "parameters get no gradient"),
    ),
    Cause(
        "softmax over the batch dimension",
        "Each class is divided among the images of the batch, so that an answer depends on the "
        "other images.",
        "return logits  # cross-entropy brings its softmax; elsewhere softmax(dim=1)",
        follows=("examples influence each other in evaluation", "cannot overfit one batch"),
    ),
    Cause(
        "sigmoid before cross-entropy",
        "Logits between 0 and 1 give no class more than e times the odds of another, so the loss "
        "can't reach 0.",
        "return self.fc(x)  # no sigmoid on the output",
        follows=("cannot overfit one batch",),
    ),
    Cause(
        "tanh before cross-entropy",
        "Bounded logits bound the probabilities, so the loss can't reach 0.",
        "return self.fc(x)  # no tanh on the output",
        follows=("cannot overfit one batch",),
    ),
    Cause(
        "ReLU before cross-entropy",
        "A negative logit becomes 0 and gets no gradient: that class can't come back.",
        "return self.fc(x)  # no ReLU on the output",
        follows=("cannot overfit one batch",),
    ),
    Cause(
        "log-softmax missing before the NLL loss",
        "This loss is minus its input at the label: without log-softmax it falls without limit and "
        "the other classes get no gradient.",
        "return logits.log_softmax(1)  # or: loss = F.cross_entropy",
        follows=("cannot overfit one batch",),
    ),
    Cause(
        "validation transform is random",
        "The same image is another one at each look, so validation measures a harder task, with "
        "noise.",
        "val = Dataset(..., transform=plain)  # augment the training set alone",
    ),
    Cause(
        "examples influence each other in evaluation",
        "An answer that depends on the rest of its batch changes with batch size and order.",
        "F.batch_norm(x, self.running_mean, self.running_var, training=self.training)",
    ),
    Cause(
        "evaluation is random",
        "Dropout that stays on in evaluation costs accuracy, and no two evaluations agree.",
        "F.dropout(x, p, training=self.training)",
        follows=("examples influence each other in evaluation",),
    ),
    Cause(
        "evaluation runs in train mode",
        "Dropout still drops and BatchNorm takes, and learns, the statistics of the validation "
        "batch.",
        "model.eval()  # before validation; model.train() before the next epoch",
    ),
    Cause(
        "training runs in eval mode",
        "Dropout is off and BatchNorm's statistics stand still: the model trains without both.",
        "model.train()  # at the start of each epoch",
    ),
    Cause(
        "dropout changes the expectation",
        "The next layer sees inputs of one size in training and of another in evaluation.",
        "mask / (1 - p)  # in training; nothing in evaluation",
    ),
    Cause(
        "dropout drops the wrong share",
        "p is the probability of dropping; with p and 1 - p exchanged, p = 0.1 drops 90 %.",
        "mask = torch.rand_like(x) > p",
        follows=("dropout changes the expectation",),
    ),
    Cause(
        "BatchNorm's running statistics are never updated",
        "Evaluation normalises with mean 0 and variance 1, which no layer has seen in training.",
        "self.running_mean.lerp_(batch_mean, momentum)  # in train mode",
    ),
    Cause(
        "stale gradients",
        "backward() adds to .grad: without zero_grad each step follows the sum of all gradients so "
        "far, like momentum without end.",
        "optimizer.zero_grad()  # before each loss.backward()",
    ),
    Cause(
        "gradients never used",
        "Gradients were computed and thrown away before any step: those batches taught nothing.",
        "optimizer.step()  # inside the loop, after loss.backward() and before zero_grad()",
    ),
    Cause(
        "training or evaluation loop raises an error",
        "The loop stops at its first batches, and nothing of it could be watched.",
        "train(model, optimizer, list(batches)[:2])  # until it runs; evaluate likewise",
    ),
    Cause(
        "no trainable parameters",
        "backward() has nothing to give a gradient to, and no step changes anything.",
        "model.requires_grad_(True)  # or that of its last layer alone",
        follows=("training or evaluation loop raises an error",),
    ),
    Cause(
        "no backward pass",
        "Only loss.backward() fills .grad; a step without gradients changes nothing.",
        "loss.backward()  # before optimizer.step()",
    ),
    Cause(
        "parameters not in the optimiser",
        "They get gradients, and nobody applies them: these layers keep their random weights.",
        "optimizer = torch.optim.Adam(model.parameters())",
    ),
    Cause(
        "parameters get no gradient",
        "The graph is cut before them, or they are not used: these layers keep their random "
        "weights.",
        "x  # without .detach(), .data, .item() or numpy on the way to the loss",
    ),
    Cause(
        "learning rate is 0",
        "A step of size 0 changes nothing.",
        "torch.optim.Adam(model.parameters(), lr=1e-3)",
    ),
    Cause(
        "input not scaled",
        "Activations and gradients grow with the input, so that a learning rate for inputs of "
        "size 1 is hundreds of times too large.",
        "x = x / 255",
        follows=("cannot overfit one batch",),
    ),
    Cause(
        "input scaled down twice",
        "Inputs this small hardly move the first layer: its gradient is small in proportion.",
        "x = x / 255  # once",
        follows=("cannot overfit one batch",),
    ),
    Cause(
        "validation inputs are scaled otherwise",
        "The model is asked about inputs of another brightness and contrast than it learned from.",
        "transform = Normalize(mean, std)  # one for training, validation and test",
    ),
    Cause(
        "normalisation statistics of other data",
        "Inputs are off centre or off scale; a small offset is often harmless, a large one acts "
        "like another learning rate.",
        "mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3))  # of all training images",
    ),
    Cause(
        "BatchNorm's running statistics are off",
        "Evaluation normalises with statistics that the training data do not have there: they come "
        "from other data, or from behind a Dropout, which is off in evaluation.",
        "model.eval(); norm.train()  # each BatchNorm; then all training images once, no step",
    ),
    Cause(
        "labels carry no signal",
        "If labels and images are out of step there is nothing to learn but the noise by heart.",
        "images[order], labels[order]  # one order for both",
    ),
    Cause(
        "training and validation overlap",
        "Validation then measures memory, not generalisation.",
        "train, val = torch.utils.data.random_split(dataset, [0.9, 0.1])",
    ),
    Cause(
        "learning rate too high",
        "Steps overshoot: the loss jumps or grows where a smaller step lets it fall.",
        "torch.optim.Adam(model.parameters(), lr=smaller_lr)  # as in the trial above",
        follows=("learning rate too low",),
    ),
    Cause(
        "learning rate too low",
        "Training goes the right way, and will need a hundred times the epochs.",
        "torch.optim.Adam(model.parameters(), lr=larger_lr)  # as in the trial above",
    ),
    Cause(
        "cannot overfit one batch",
        "A model that can't learn 32 images by heart won't learn 50,000.",
        "labkit.summary.summary(model, x.shape[1:])  # does each weight lead to the loss?",
    ),
    Cause(
        "generalisation gap",
        "The model knows its training images better than the task; that is no bug, but "
        "regularisation or more data would pay.",
        'labkit.Recipe(augment=("crop", "flip"), weight_decay=5e-4)',
    ),
)

CAUSES = {cause.name: cause for cause in _ALL}
