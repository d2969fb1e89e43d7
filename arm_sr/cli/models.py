"""List the models that come with the package, or describe a model directory."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `arm-sr models`."""
    parser.add_argument("names", nargs="*", metavar="MODEL", help="names or directories (default: all that come along)")


def run(args: argparse.Namespace) -> int:
    """Print a line for each sub-net; returns the exit status."""
    from ..models import list_models, load_model

    columns = ("model", 12), ("scale", 5), ("branch", 8), ("params", 8), ("MACs a LR pixel", 15), ("share", 6)
    print("  ".join(f"{title:>{wide}}" for title, wide in (*columns, ("receptive radius", 16))))
    for name in args.names or list_models():
        card = load_model(name)
        largest = card.subnets[card.largest].macs_per_lr_pixel
        print(f"{card.name:>12}  {card.scale:>5}  {'bicubic':>8}  {0:>8}  {0:>15}  {0:>6.1%}  {2:>16}")
        for branch in card.branches[1:]:
            subnet = card.subnets[branch]
            print(
                f"{card.name:>12}  {card.scale:>5}  {branch:>8}  {subnet.params:>8}  {subnet.macs_per_lr_pixel:>15}  "
                f"{subnet.macs_per_lr_pixel / largest:>6.1%}  {subnet.receptive_radius:>16}"
            )
    return 0
