"""The documentation as a site: ``make docs``."""

import re

from airflow_provider_clusterra import __version__

SOURCE = "https://github.com/clusterra-hpc/airflow-provider-clusterra"

project = "airflow-provider-clusterra"
author = "The airflow-provider-clusterra authors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_logo = "integration-logos/clusterra.svg"
html_title = f"{project} {release}"
html_theme_options = {
    "source_repository": SOURCE,
    "source_branch": "main",
    "source_directory": "docs/",
}
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"


def setup(app):
    """Let links to the code lead to the repository; an example is downloaded."""
    link = f"]({SOURCE}/blob/v{release}/"

    def replace(_app, _name, source):
        source[0] = re.sub(r"\]\(\.\./(?!example_dags)", link, source[0])

    app.connect("source-read", replace)
