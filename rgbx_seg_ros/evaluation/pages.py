# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""HTML pages that need no other file and no network, from templates, most beside this module."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import (
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    TemplateNotFound,
)
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import MARK, write_text


def write_page(path: Path, template: str, filters: dict[str, Callable],
               folders: tuple[Path, ...] = (), **values: Any) -> None:
    """
    Write the page that `template` makes of `values`; raise DataError where that cannot be.

    `filters` are what it may put values through, by name. Templates are looked for in `folders`
    as well.
    """
    # Names of classes, frames and topics come from files: none of them is markup.
    loader = ChoiceLoader([PackageLoader('rgbx_seg_ros.evaluation'), FileSystemLoader(folders)])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(filters)
    try:
        page = environment.get_template(template).render(mark=MARK, **values)
    except TemplateNotFound as error:  # an OSError, of no file that a user has named
        raise DataError(
            f'found no template {error.name!r} beside {__file__}: the install is incomplete, '
            'build or install the package again') from error
    write_text(path, page)
