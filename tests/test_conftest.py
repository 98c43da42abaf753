"""What all tests share is tested itself, where a mistake in it would go unnoticed."""

from __future__ import annotations

import pytest

import borg_serve_lib

from . import conftest


@pytest.mark.parametrize("place", ["/work/tree", "/v/lib/python3.11/site-packages"])
@pytest.mark.parametrize("wanted", ["", "yes"])
def test_the_source_tree_is_not_tested_where_the_installed_package_is_meant(
    place: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(borg_serve_lib, "__file__", f"{place}/borg_serve_lib/__init__.py")
    monkeypatch.setenv("BORG_SERVE_LIB_INSTALLED", wanted)
    if wanted and "site-packages" not in place:
        with pytest.raises(pytest.UsageError, match="but /work/tree/borg_serve_lib is imported"):
            conftest.pytest_configure()
    else:
        conftest.pytest_configure()
    assert conftest.pytest_report_header() == f"borg_serve_lib: {place}/borg_serve_lib"
