"""Which apt sources are taken over from the machine, for made-up machines."""

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
    """`sources` becomes sources.list; every other one a file of sources.list.d (`_` for its dot)."""
    (folder / "sources.list.d").mkdir(parents=True)
    for name, text in files.items():
        path = "sources.list" if name == "sources" else f"sources.list.d/{name.replace('_', '.')}"
        (folder / path).write_text(text)
    return folder


def fields(text, name):
    return [line.split(": ", 1)[1] for line in text.splitlines() if line.startswith(f"{name}: ")]


def test_stanzas_are_taken_without_backports_and_without_those_switched_off(tmp_path):
    found = distribution_sources(BOOKWORM, a_machine(tmp_path, debian_sources=DEB822))
    assert fields(found, "URIs") == [
        "http://archive.invalid/debian",
        "http://archive.invalid/debian-security",
    ]
    assert fields(found, "Suites") == ["bookworm bookworm-updates", "bookworm-security"]
    assert fields(found, "Signed-By") == ["/usr/share/keyrings/debian-archive-keyring.gpg"] * 2


def test_lines_are_taken_with_their_key(tmp_path):
    lines = """\
# deb http://commented.invalid/debian bookworm main
deb-src http://archive.invalid/debian bookworm main
deb [arch=amd64 signed-by=/keyrings/debian-archive-keyring.gpg] http://archive.invalid/debian bookworm main
deb http://archive.invalid/debian-security bookworm-security main  # the updates
"""
    found = distribution_sources(BOOKWORM, a_machine(tmp_path, sources=lines))
    assert fields(found, "URIs") == [
        "http://archive.invalid/debian",
        "http://archive.invalid/debian-security",
    ]
    assert fields(found, "Signed-By") == ["/keyrings/debian-archive-keyring.gpg"]
    assert fields(found, "Components") == ["main", "main"]


def test_third_parties_are_left_out_even_when_they_use_the_name_of_the_release(tmp_path):
    machine = a_machine(
        tmp_path,
        debian_sources=DEB822,
        cloud_list="deb http://third.invalid/apt cloud-bookworm main\n",
        docker_list="deb [signed-by=/etc/apt/keyrings/docker.asc] http://third.invalid/linux bookworm main\n",
        node_sources="Types: deb\nURIs: http://third.invalid/node\nSuites: nodistro\nComponents: main\n",
    )
    assert "third.invalid" not in distribution_sources(BOOKWORM, machine)


def test_an_earlier_release_is_reached_through_the_same_archive(tmp_path):
    """Beside the machine's own, from which come the dependencies that fit what is installed."""
    found = distribution_sources(BOOKWORM.with_earlier(), a_machine(tmp_path, debian_sources=DEB822))
    assert fields(found, "Suites") == [
        "bookworm bookworm-updates bullseye bullseye-updates",
        "bookworm-security bullseye-security",
    ]


def test_the_same_on_ubuntu(tmp_path):
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


def test_a_machine_without_sources_is_told_so(tmp_path):
    with pytest.raises(ServerError, match="no apt source for the packages of bookworm"):
        distribution_sources(BOOKWORM, a_machine(tmp_path))


def test_a_release_without_a_known_earlier_one_makes_do_with_itself():
    assert Release("forky").with_earlier() == Release("forky")
