"""Towers with BatchNorm: weights off their neutral values, and training mode.

A case with training mode has in its .safetensors
  train/image_features, train/loss    with the statistics of the batch
  train/grad/<key>                    gradient of that loss
  once/<key>                          running statistics after one forward pass
and in its .json how far upstream itself is from f64 at most, with its pixels as they are or moved by a rounding, as statistics of a few
values can be ill-conditioned.
"""

import copy

import open_clip
import torch
import upstream

# Of an f32, relative.
ROUNDING = 2.0**-23


@torch.no_grad()
def unsettle(model: torch.nn.Module) -> None:
    """Norms off their neutral values, so that a swapped or ignored one shows."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.copy_(0.8 + 0.3 * torch.randn_like(module.weight))
            module.bias.copy_(0.3 * torch.randn_like(module.bias))
            module.running_mean.copy_(0.3 * torch.randn_like(module.running_mean))
            module.running_var.copy_(0.5 + torch.rand_like(module.running_var))
            module.num_batches_tracked.fill_(7)


def step(model, image, text) -> dict:
    """The pass of a step does not depend on the running statistics that it changes."""
    model = copy.deepcopy(model).train()
    model.zero_grad()
    with torch.no_grad():
        features = model.encode_image(image)
    loss = open_clip.ClipLoss()(**model(image, text))
    loss.backward()
    return {"image_features": features, "loss": loss.detach(), **upstream.gradients(model)}


@torch.no_grad()
def statistics(model, batches) -> dict:
    """Running statistics after a forward pass of each batch."""
    model = copy.deepcopy(model).train()
    for image in batches:
        model.encode_image(image)
    return {k: v.clone() for k, v in model.state_dict().items() if "running_" in k}


@torch.no_grad()
def relu_arguments(model, image) -> list[torch.Tensor]:
    """In training mode, layer after layer."""
    model, found = copy.deepcopy(model).train(), []
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_pre_hook(lambda _, arguments: found.append(arguments[0].to(torch.float64, copy=True)))
    model.encode_image(image)
    return found


def is_at_a_kink(model, image) -> bool:
    """Whether an argument of a ReLU is so near zero that its sign, and with it the gradient, may be a matter of rounding."""
    exact = relu_arguments(upstream.in_f64(model), image.double())
    pairs = zip(relu_arguments(model, image), exact)
    return any(y.abs().min() < (x - y).abs().max() for x, y in pairs)


def training(model, image, text) -> tuple[dict, dict]:
    found, exact = step(model, image, text), step(upstream.in_f64(model), image.double(), text)
    gradients = {k: v for k, v in exact.items() if k.startswith("grad/")}
    largest = max(float(v.abs().max()) for v in gradients.values())

    def error(found: dict) -> tuple[float, float]:
        def apart(key: str) -> float:
            return float((found[key] - exact[key]).abs().max())

        relative = (apart(k) / max(float(v.abs().max()), 1e-3 * largest) for k, v in gradients.items())
        return apart("image_features"), max(relative)

    noise = torch.Generator().manual_seed(1)
    moved = (image * (1 + ROUNDING * torch.randn(image.shape, generator=noise)) for _ in range(4))
    errors = [error(found), *(error(step(model, pixels, text)) for pixels in moved)]
    worst = dict(zip(("features_abs", "gradients"), map(max, zip(*errors))))
    tensors = upstream.prefixed("train", found) | upstream.prefixed("once", statistics(model, [image]))
    return tensors, {"training_f32_against_f64": worst}
