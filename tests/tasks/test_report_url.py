"""The address of reports: what is one, where it leads, and that it changes no run."""

import pytest
from starlette.testclient import TestClient

from flows.config import load_config
from tasks.config import AuditConfig
from tasks.reading.report_url import checked, report_link
from warehouse.explorer.app import explorer

BARE = {"data": {"images": "images"}, "classifier": {"weights": "portraits:planted"}}


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://host/reports/", "https://host/reports/toy-1.html"),
        ("https://host:8443/reports", "https://host:8443/reports/toy-1.html"),
        ("http://[::1]:8100/runs/{run}/report", "http://[::1]:8100/runs/toy-1/report"),
        (None, None),
    ],
)
def test_a_folder_gets_the_file_and_a_placeholder_the_run(url: str | None, link: str | None) -> None:
    config = AuditConfig.model_validate(BARE | {"report_url": url})
    assert report_link(config.report_url, "toy-1") == link
    assert config.result_hash() == AuditConfig.model_validate(BARE).result_hash()


def test_the_explorers_address_is_where_it_serves_the_report(tmp_path) -> None:
    link = report_link("http://localhost/runs/{run}/report", "nosuch")
    with TestClient(explorer(tmp_path), base_url="http://localhost") as client:
        assert "there is no run &#39;nosuch&#39;" in client.get(str(link)).text  # asked for, not a wrong path
        assert client.get(f"{link}s").status_code == 404


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///srv/reports/", "not an http:// or https:// address"),
        ("host/reports", "not an http:// or https:// address"),
        ("https://host:port/", "not an http:// or https:// address"),
        ("https://ho st/", "not an http:// or https:// address"),
        ("https://me:hunter2@host/", "no name or password"),
        ("https://host/?token=hunter2", "no secret in an address"),
        ("https://host/?hunter2", "no ? and no #"),
        ("https://host/{name}/report", "its one placeholder is {run}"),
        ("https://host/a)b/", r"no ')' in this address"),
    ],
)
def test_what_is_no_address_is_refused_and_a_secret_not_repeated(url: str, words: str, tmp_path) -> None:
    with pytest.raises(ValueError) as refused:
        checked(url)
    assert words in str(refused.value)
    path = tmp_path / "run.yaml"
    path.write_text(f"data: {{images: images}}\nclassifier: {{weights: 'portraits:planted'}}\nreport_url: '{url}'\n")
    with pytest.raises(ValueError) as refused:
        load_config(path)
    assert "report_url" in str(refused.value) and words in str(refused.value) and "hunter2" not in str(refused.value)
