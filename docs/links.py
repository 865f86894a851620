# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What MkDocs must know: a link that leads out of the pages leads into the repository."""

from pathlib import Path
import re
from xml.etree import ElementTree

DOCS = Path(__file__).resolve().parent
WEBSITE = ElementTree.parse(DOCS.parent / 'package.xml').find("url[@type='website']").text


def on_page_markdown(markdown, page, config, files):
    """Replace the targets of links that are files of the repository and not of the site."""
    def replaced(found):
        path = Path(page.file.abs_src_path).parent.joinpath(found[1]).resolve()
        if not path.exists() or DOCS in path.parents and path.suffix != '.py':
            return found[0]
        return f']({WEBSITE}/blob/main/{path.relative_to(DOCS.parent).as_posix()}'
    return re.sub(r'\]\((?!\w+:)([^)#\s]+)', replaced, markdown)
