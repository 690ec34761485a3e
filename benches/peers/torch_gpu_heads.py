"""-log p of labels from hidden states, by PyTorch and by the libraries that fuse head and loss."""
import re
from importlib import metadata

import torch
import torch.nn.functional as F

# of -log p, and of the gradient relative to its norm: rounding of logits with a deviation of 1, with a margin
LIMITS = {torch.bfloat16: (0.1, 0.03), torch.float32: (1e-5, 1e-5)}


def liger():
    """Liger. Before 0.8.2 its gradient of losses per token is wrong: each token gets the first one's weight."""
    found = metadata.version("liger-kernel")
    if tuple(int(part) for part in re.findall(r"\d+", found)[:3]) < (0, 8, 5):
        raise RuntimeError(f"liger-kernel {found} is too old: 0.8.5 or later")
    import liger_kernel.transformers

    return liger_kernel.transformers


def linear_loss(head, weight):
    """(rows, labels) -> -log p of each."""
    if head == "liger":
        fused = liger().LigerFusedLinearCrossEntropyLoss(reduction="none")
        return lambda h, labels: fused(weight, h, labels)
    if head == "liger-ce":
        of_logits = liger().LigerCrossEntropyLoss(reduction="none")
        return lambda h, labels: of_logits(h @ weight.T, labels)
    if head.startswith("cce"):
        from cut_cross_entropy import linear_cross_entropy

        exact = {"filter_eps": None} if head == "cce" else {}
        return lambda h, labels: linear_cross_entropy(h.to(torch.bfloat16), weight, labels, reduction="none", **exact)
    if head == "quack":
        from quack import cross_entropy

        return lambda h, labels: cross_entropy(h @ weight.T, labels, reduction="none")
    if head == "trl":
        from trl.kernels import ChunkedLogProbFunction

        # no bias, temperature 1, the chunks of TRL's trainers, no cap, scale 1, log p alone
        rest = (1.0, 32768, None, 1.0, ())
        return lambda h, labels: -ChunkedLogProbFunction.apply(h, weight, None, labels, *rest)[0]
    return lambda h, labels: F.cross_entropy((h @ weight.T).float(), labels, reduction="none")


def errors(head, device):
    """The largest error of -log p, and the relative one of the gradient of hidden states under a weight for each row,
    beside f64 on the same inputs: 37 rows of 64, 1000 labels. Fails where they are no rounding."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    draw = torch.Generator().manual_seed(7)
    x, weight, scale = (torch.randn(*shape, generator=draw) for shape in ((37, 64), (1000, 64), (37,)))
    weight, labels = weight / 8, torch.randint(0, 1000, (37,), generator=draw)
    x, weight, scale, labels = x.to(device, dtype), weight.to(device, dtype), scale.to(device), labels.to(device)

    def results(nll, x):
        each = nll(x.requires_grad_(), labels)
        return each.detach().double(), torch.autograd.grad((each * scale.to(each.dtype)).sum(), x)[0].double()

    nll, gradient = results(linear_loss(head, weight), x.clone())
    in_full = weight.double()
    expected, slope = results(lambda h, labels: F.cross_entropy(h @ in_full.T, labels, reduction="none"), x.double())
    found = ((nll - expected).abs().max().item(), ((gradient - slope).norm() / slope.norm()).item())
    if not all(error <= limit for error, limit in zip(found, LIMITS[dtype])):
        raise ValueError("wrong results: -log p is off by {:.1e}, its gradient by {:.1e}".format(*found))
    return dict(nll_error=found[0], gradient_error=found[1])
