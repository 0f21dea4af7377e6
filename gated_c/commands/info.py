"""``gated-c info``."""

from __future__ import annotations

import argparse

import gated_c as gc
from gated_c.commands.arguments import Commands, add_command, add_config, add_file
from gated_c.console import format_bytes, naming, print_table, printable, showing_warnings
from gated_c.options import Options

_SIZES = ("layers", "directions", "input", "hidden", "proj", "batch_first", "parameters", "dtype", "memory")


def add(commands: Commands) -> None:
    parser = add_command(commands, _info, "info", "list the recurrent modules of a file")
    add_file(parser)
    add_config(parser)


def _info(args: argparse.Namespace) -> None:
    with naming(args.file), showing_warnings():
        rows = [_info_row(layer) for layer in gc.inspect(args.file, config=args.config)]
        if not rows:
            raise ValueError("no LSTM, GRU or RNN in it")
    print_table(("name", "cell", *_SIZES), rows, text_columns=2)


def _info_row(layer: gc.LayerSpec) -> tuple[object, ...]:
    options = Options.of_layer(layer)
    return (
        printable(layer.name) or "-",
        layer.cell,
        layer.num_layers,
        layer.num_directions,
        layer.input_size,
        layer.hidden_size,
        layer.proj_size or "-",
        "yes" if layer.batch_first else "no",
        f"{layer.num_parameters:,}",
        str(options),
        format_bytes(gc.Model([layer], **options._asdict()).packed_bytes),
    )
