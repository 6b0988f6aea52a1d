"""Select the distribution's apt sources on made-up machines."""

import pytest

from mycelium.servers import ServerError
from mycelium.servers.sources import Release, distribution_sources

BOOKWORM = Release("bookworm")

DEB822 = """\
Types: deb
# a comment inside a stanza
URIs: http://archive.invalid/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://archive.invalid/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://switched-off.invalid/debian
Suites: bookworm
Components: main
Enabled: no
"""


def a_machine(folder, **files):
    """Write `sources` to sources.list and each other name to sources.list.d, with `_` for the dot."""
    (folder / "sources.list.d").mkdir(parents=True)
    for name, text in files.items():
        path = "sources.list" if name == "sources" else f"sources.list.d/{name.replace('_', '.')}"
        (folder / path).write_text(text)
    return folder


def fields(text, name):
    return [line.split(": ", 1)[1] for line in text.splitlines() if line.startswith(f"{name}: ")]


def test_deb822_stanzas_lose_backports_and_disabled_stanzas(tmp_path):
    sources = distribution_sources(BOOKWORM, a_machine(tmp_path, debian_sources=DEB822))
    assert fields(sources, "URIs") == [
        "http://archive.invalid/debian",
        "http://archive.invalid/debian-security",
    ]
    assert fields(sources, "Suites") == ["bookworm bookworm-updates", "bookworm-security"]
    assert fields(sources, "Signed-By") == ["/usr/share/keyrings/debian-archive-keyring.gpg"] * 2


def test_one_line_sources_keep_their_key(tmp_path):
    lines = """\
# deb http://commented.invalid/debian bookworm main
deb-src http://archive.invalid/debian bookworm main
deb [arch=amd64 signed-by=/keyrings/debian-archive-keyring.gpg] http://archive.invalid/debian bookworm main
deb http://archive.invalid/debian-security bookworm-security main  # the updates
"""
    sources = distribution_sources(BOOKWORM, a_machine(tmp_path, sources=lines))
    assert fields(sources, "URIs") == [
        "http://archive.invalid/debian",
        "http://archive.invalid/debian-security",
    ]
    assert fields(sources, "Signed-By") == ["/keyrings/debian-archive-keyring.gpg"]
    assert fields(sources, "Components") == ["main", "main"]


def test_third_party_sources_are_left_out_despite_the_releases_name(tmp_path):
    machine = a_machine(
        tmp_path,
        debian_sources=DEB822,
        cloud_list="deb http://third.invalid/apt cloud-bookworm main\n",
        docker_list="deb [signed-by=/etc/apt/keyrings/docker.asc] http://third.invalid/linux bookworm main\n",
        node_sources="Types: deb\nURIs: http://third.invalid/node\nSuites: nodistro\nComponents: main\n",
    )
    assert "third.invalid" not in distribution_sources(BOOKWORM, machine)


def test_earlier_release_comes_from_the_same_archive(tmp_path):
    """The machine's own suites stay, because dependencies have to match installed packages."""
    sources = distribution_sources(BOOKWORM.with_earlier(), a_machine(tmp_path, debian_sources=DEB822))
    assert fields(sources, "Suites") == [
        "bookworm bookworm-updates bullseye bullseye-updates",
        "bookworm-security bullseye-security",
    ]


def test_ubuntu_sources_are_selected_likewise(tmp_path):
    ubuntu = """\
Types: deb
URIs: http://archive.invalid/ubuntu
Suites: noble noble-updates noble-backports
Components: main universe
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
"""
    noble = Release("noble")
    machine = a_machine(tmp_path, ubuntu_sources=ubuntu)
    assert fields(distribution_sources(noble, machine), "Suites") == ["noble noble-updates"]
    assert fields(distribution_sources(noble.with_earlier(), machine), "Suites") == [
        "noble noble-updates jammy jammy-updates"
    ]


def test_machine_without_sources_raises_server_error(tmp_path):
    with pytest.raises(ServerError, match="no apt source for the packages of bookworm"):
        distribution_sources(BOOKWORM, a_machine(tmp_path))


def test_release_without_an_earlier_release_stays_alone():
    assert Release("forky").with_earlier() == Release("forky")
