# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A forward pass of a network of ours, and a look at its intermediates."""

from collections import Counter

from support.parity_stages import STAGES


def forward(net, inputs):
    """Return everything a network makes of the inputs, by name."""
    if not hasattr(net, 'forward_with_fusion'):
        return {'logits': net(**inputs)}
    return dict(zip(('logits', 'fused'), net.forward_with_fusion(**inputs), strict=True))


def watch(net, network, names, forced):
    """
    Record the intermediates `names` of the next forward pass, and go on with the `forced` ones.

    Return the dict that the pass will fill, and the hooks.
    """
    seen, hooks = {}, []
    places = {}
    for name in names:
        places.setdefault(STAGES[network][name].path, []).append(name)

    def hook_of(path):
        calls = Counter()

        def hook(module, args, out):
            for name in places[path]:
                stage = STAGES[network][name]
                if stage.call == calls[path]:
                    seen[name] = stage.of(args, out).clone()
            calls[path] += 1
            forced_here = [forced[name] for name in places[path] if name in forced]
            return forced_here[0].to(out) if forced_here else None
        return hook

    for path in places:
        hooks.append(net.get_submodule(path).register_forward_hook(hook_of(path)))
    return seen, hooks
