"""Names, paths, URIs and texts from outside: what is accepted, what is refused, and that nobody disagrees."""

from __future__ import annotations

import json
import math
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from refart import names
from refart.entries import Entry, check_page, page_of
from refart.errors import InvalidInputError
from refart.names import VersionRef
from tests import strategies

# Text in which everything that a path rule speaks of is frequent.
awkward = st.text("/.\n\0\x7f\x1f:aC%é\u2028\x85 ", max_size=12) | st.text(max_size=12)


def accepts(check: Any, *arguments: Any) -> bool:
    try:
        check(*arguments)
    except InvalidInputError:
        return False
    return True


# -- paths --------------------------------------------------------------------------------------------


@given(awkward)
@example("a\n")
@example("a/..\n")
@example("C:a")
@example("aC:")
@example("a/C:")
@example("\n..")
def test_one_path_and_a_page_of_paths_are_judged_alike(path: str) -> None:
    """The scalar rule is Python's `re`, the vectorised one RE2: both must draw the same line."""
    alone = accepts(names.check_path, path)
    try:
        page = page_of([Entry(path, 0, "none", "s3://b/k")])
    except UnicodeEncodeError:  # lone surrogates never get into a page
        assert not alone
        return
    assert alone == accepts(check_page, page, "a source")


@given(strategies.paths)
def test_the_path_of_an_ordinary_key_is_the_key(key: str) -> None:
    assert names.path_from_key(key) == key


@given(awkward)
@example("")
@example("/")
@example("../../etc/passwd")
@example("a//b/./c/")
@example("C:\0")
def test_every_key_has_a_path_that_is_accepted(key: str) -> None:
    path = names.path_from_key(key)
    try:
        key.encode()
    except UnicodeEncodeError:
        return  # S3 keys are UTF-8
    assert names.check_path(path) == path
    assert path.count("/") == key.count("/")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a//b", "a/%2F/b"),
        ("a/../b", "a/%2E%2E/b"),
        ("./a", "%2E/a"),
        ("a\nb", "a%0Ab"),
        ("C:/x", "C%3A/x"),
        ("x/C:", "x/C:"),
        ("100%/a b#?.csv", "100%/a b#?.csv"),
    ],
)
def test_only_what_cannot_be_a_path_is_encoded(key: str, path: str) -> None:
    assert names.path_from_key(key) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "./a",
        "a\0b",
        "a\nb",
        "a\x7f",
        "C:",
        "c:\\x",
        "\ud800",
    ],
)
def test_a_path_that_could_leave_its_folder_or_break_a_tool_is_refused(path: str) -> None:
    with pytest.raises(InvalidInputError, match="entry path"):
        names.check_path(path)


def test_a_path_is_measured_in_bytes() -> None:
    assert names.check_path("é" * 2048)
    with pytest.raises(InvalidInputError, match="4,098 bytes"):
        names.check_path("é" * 2049)


def test_messages_do_not_carry_megabytes() -> None:
    with pytest.raises(InvalidInputError) as caught:
        names.check_path("x" * 1_000_000)
    assert len(str(caught.value)) < 1000


# -- names, aliases, tags -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "A-Z_0.9", "x" * 128, "v1", "...", ".hidden"])
def test_names_that_are_accepted(name: str) -> None:
    assert names.check_name(name, "project") == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a:b", "é", "a\n", "x" * 129, None, 7, b"a"])
def test_names_that_are_refused(name: object) -> None:
    with pytest.raises(InvalidInputError, match=r"project .* is not allowed"):
        names.check_name(name, "project")


@pytest.mark.parametrize("alias", ["best", "v", "v1.0", "2026-03-01", "größte", "two words", "V3"])
def test_aliases_that_are_accepted(alias: str) -> None:
    assert names.check_alias(alias) == alias


@pytest.mark.parametrize("alias", ["", "a/b", "a:b", " a", "a ", "a\n", "x" * 129, None, "\ud800"])
def test_aliases_that_are_refused(alias: object) -> None:
    with pytest.raises(InvalidInputError, match=r"alias .* is not allowed"):
        names.check_alias(alias)


@pytest.mark.parametrize("alias", ["v0", "v3", "v007", "v" + "9" * 40])
def test_an_alias_cannot_look_like_a_version(alias: str) -> None:
    with pytest.raises(InvalidInputError, match="version number"):
        names.check_alias(alias)


@pytest.mark.parametrize("tag", ["ok", "two words", "a-b_c", "größte"])
def test_tags_that_are_accepted(tag: str) -> None:
    assert names.check_tag(tag) == tag


@pytest.mark.parametrize("tag", ["", " a", "a ", "a:b", "a/b", "a\n", "x" * 129, None])
def test_tags_that_are_refused(tag: object) -> None:
    with pytest.raises(InvalidInputError, match=r"tag .* is not allowed"):
        names.check_tag(tag)


@pytest.mark.parametrize("check", [names.check_aliases, names.check_tags])
def test_lists_of_labels_keep_order_and_drop_repetitions(check: Any) -> None:
    assert check(["b", "a", "b"]) == ("b", "a")
    assert check(None) == ()
    with pytest.raises(InvalidInputError, match="must be a list"):
        check("best")


# -- naming a version ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cats", VersionRef("vision", "cats", "latest")),
        ("cats:best", VersionRef("vision", "cats", "best")),
        ("cats:v0", VersionRef("vision", "cats", 0)),
        ("other/cats:v12", VersionRef("other", "cats", 12)),
        ("other/cats", VersionRef("other", "cats", "latest")),
        ("cats:1.0", VersionRef("vision", "cats", "1.0")),
    ],
)
def test_version_references(text: str, expected: VersionRef) -> None:
    assert names.parse_version_ref(text, "vision") == expected
    assert names.parse_version_ref(str(expected), "elsewhere") == expected


@pytest.mark.parametrize(
    "text", ["", ":", "cats:", ":v0", "/cats", "cats/", "a/b/c", "cats:v01", "cats:a:b", "cats:x/y", None, 3]
)
def test_malformed_version_references_are_refused(text: object) -> None:
    with pytest.raises(InvalidInputError):
        names.parse_version_ref(text, "vision")


@given(st.text(max_size=20))
def test_any_text_is_a_reference_or_an_invalid_one(text: str) -> None:
    if accepts(names.parse_version_ref, text, "vision"):
        ref = names.parse_version_ref(text, "vision")
        assert names.parse_version_ref(str(ref), "elsewhere") == ref


def test_collection_references() -> None:
    assert names.parse_collection_ref("cats", "vision") == ("vision", "cats")
    assert names.parse_collection_ref("registry/cats", "vision") == ("registry", "cats")
    for text in ("registry/", "a/b/c", "cats:v0", None):
        with pytest.raises(InvalidInputError):
            names.parse_collection_ref(text, "vision")


@pytest.mark.parametrize("parse", [names.parse_version_ref, names.parse_collection_ref])
def test_a_name_with_an_entity_as_in_wandb_is_told_what_it_has_too_much(parse: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"'team/vision/cats' has too many parts.*no entity"):
        parse("team/vision/cats", "vision")


# -- URIs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/a#b?c=d%20//../é",
        "s3://bucket/user:pw@host",
        "file:///data/a@b:c",
        "/plain/p@th",
        "abfs://container@account.dfs.core.windows.net/x",
        "https://host/path?version=3",
        "https://host/mail@example.org",
        "https://host/x?Expires=3&Policy=fair&sv=se&key=7",
        "https://host/x?page=a::b",
        "https://host/hash%23tag",
        "sftp://user@host/x",
        "github://org:repo@branch/path/x.csv",
        "git://:main@x.csv",
        "gist://user@0123/x.csv",
        "zip://in/side.csv::https://host/x.zip?version=3",
        "zip://in/side.csv::s3://bucket/x.zip#1",
        "simplecache::https://host/x",
        "s3://bucket/a?sig=not-a-query",
    ],
)
def test_uris_that_are_accepted_stay_as_they_are(uri: str) -> None:
    assert names.check_uri(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:hunter2@bucket/key",
        "https://hunter2@host/x",
        "ftp://user:hunter2@host/x",
        "sftp://user:hunter2@host/x",
        "https://host/x?X-Amz-Signature=hunter2",
        "https://host/x?a=1&sig=hunter2",
        "https://host/x?ACCESS_TOKEN=hunter2",
        "https://host/x?a=1;sig=hunter2",
        "https://host/x?url=//other/y?sig=hunter2",
        "https://host/x?s%69g=hunter2",
        "https://host/x?Key-Pair-Id=hunter2",
        "https://user:hunter2@host#x",
        "HTTPS://host/x?token=hunter2\0",
        "gist://user:hunter2@0123/x.csv",
        "zip://a::https://user:hunter2@host/x.zip",
        "zip://a::https://host/x.zip?sig=hunter2",
        "simplecache::https://user:hunter2@host/x",
        "zip://a::simplecache::https://host/x.zip?x=1::2&token=hunter2",
    ],
)
def test_a_uri_with_a_secret_is_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        names.check_uri(uri)
    assert "hunter2" not in str(caught.value)


def test_a_signed_uri_is_told_the_way_out() -> None:
    with pytest.raises(InvalidInputError, match="strip_signature=True"):
        names.check_uri("https://host/x?X-Amz-Signature=hunter2")


@pytest.mark.parametrize(
    "uri", ["https://host/x#part", "http://host#", "zip://a#b::https://host/x.zip#hunter2"]
)
def test_a_web_address_has_no_fragment(uri: str) -> None:
    """Servers never see it: two references that differ only there would be one object."""
    with pytest.raises(InvalidInputError, match=r"fragment.*%23") as caught:
        names.check_uri(uri)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("dots", [".", "..", "%2e%2E", ".%2e", "%2E"])
def test_a_web_address_does_not_climb(dots: str) -> None:
    """It would take the options of one folder to another."""
    for uri in (
        f"https://host/mine/{dots}/x",
        f"https://host/mine\\{dots}\\x",
        f"HTTP://host/{dots}",
        f"https://host/{dots}?a",
    ):
        with pytest.raises(InvalidInputError, match="write the address without"):
            names.check_uri(uri)
    for uri in (
        f"https://host/{dots}a/x",
        f"https://host/a{dots}",
        f"https://host/x?a=/{dots}/",
        f"s3://b/{dots}/x",
    ):
        assert names.check_uri(uri) == uri


@pytest.mark.parametrize(
    ("signed", "plain"),
    [
        (
            "https://b.s3.amazonaws.com/k?versionId=3&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F1&X-Amz-Date=1"
            "&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Security-Token=t&X-Amz-Signature=s&x-id=GetObject",
            "https://b.s3.amazonaws.com/k?versionId=3&x-id=GetObject",
        ),
        (
            "https://storage.googleapis.com/b/k?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=c&X-Goog-Date=1"
            "&X-Goog-Expires=60&X-Goog-SignedHeaders=host&X-Goog-Signature=s&generation=7",
            "https://storage.googleapis.com/b/k?generation=7",
        ),
        ("https://b.s3.amazonaws.com/k?AWSAccessKeyId=A&Expires=9&Signature=s", "https://b.s3.amazonaws.com/k"),
        ("https://storage.googleapis.com/b/k?GoogleAccessId=a&Expires=9&Signature=s&x=1", "https://storage.googleapis.com/b/k?x=1"),
        (
            "https://a.blob.core.windows.net/c/k?snapshot=1&sv=2024-11-04&ss=b&srt=o&sp=r&se=z&st=y&spr=https&sip=::1&sig=s"
            "&skoid=o&sktid=t&skt=a&ske=b&sks=b&skv=v&sdd=1&sr=b",
            "https://a.blob.core.windows.net/c/k?snapshot=1",
        ),
        ("https://d.cloudfront.net/k?size=big&Expires=9&Signature=s&Key-Pair-Id=K", "https://d.cloudfront.net/k?size=big"),
        ("https://d.cloudfront.net/k?Policy=p&Signature=s&Key-Pair-Id=K", "https://d.cloudfront.net/k"),
        ("https://h/k?a=%20&token=t&b=a+b&&c", "https://h/k?a=%20&b=a+b&&c"),
        ("https://h/k?access_token=t;a=1?b", "https://h/k?a=1?b"),
        ("zip://in::https://h/k.zip?sig=1&sv=2&a=3", "zip://in::https://h/k.zip?a=3"),
    ],
)  # fmt: skip
def test_what_signs_a_url_is_stripped_and_nothing_else(signed: str, plain: str) -> None:
    assert names.strip_signature(signed) == plain
    assert names.check_uri(plain) == plain


@pytest.mark.parametrize(
    "uri",
    [
        "https://h/k?Expires=9&Policy=fair&se=1&sv=2&X-Amz-Date=1&versionId=3",
        "https://h/k?",
        "https://h/k?&a",
        "s3://b/k?sig=1",
        "/a?sig=1",
        "zip://a?sig=1::s3://b/k",
    ],
)
def test_an_unsigned_uri_stays_untouched(uri: str) -> None:
    assert names.strip_signature(uri) == uri


_signing = ["X-Amz-Signature", "x-amz-date", "X-Goog-Credential", "AWSAccessKeyId", "Signature", "Expires"]
_signing += ["sig", "s%69g", "sv", "Key-Pair-Id", "Policy", "token"]
_parameters = st.sampled_from(_signing) | st.text("ab=%;?:/+é", max_size=5)


@given(
    st.lists(st.tuples(st.sampled_from("&;?"), _parameters, st.sampled_from(["", "=", "=1", "=a&b", "=a=b"])))
)
def test_stripping_is_idempotent_and_makes_any_query_acceptable(query: list[tuple[str, str, str]]) -> None:
    uri = "https://host/path?" + "".join(map("".join, query))[1:]
    stripped = names.strip_signature(uri)
    assert names.strip_signature(stripped) == names.check_uri(stripped) == stripped
    if accepts(names.check_uri, uri):
        assert stripped == uri


def test_only_web_addresses_have_a_query() -> None:
    assert names.without_query("https://h/a?b=/c?d") == "https://h/a"
    for uri in ("https://h/a", "s3://b/a?b", "/a?b"):
        assert names.without_query(uri) == uri


@pytest.mark.parametrize("uri", ["", None, 3, "s3://b/\0", "s3://b/\ud800", "s3://b/" + "é" * 4100])
def test_what_no_manifest_could_hold_is_no_uri(uri: object) -> None:
    with pytest.raises(InvalidInputError):
        names.check_uri(uri)


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("S3://b", "s3"),
        ("abfs+x://b", "abfs+x"),
        ("/a://b", None),
        ("a/b", None),
        ("C:/x", None),
        ("1s://b", None),
    ],
)
def test_schemes(uri: str, scheme: str | None) -> None:
    assert names.uri_scheme(uri) == scheme


# -- metadata and description --------------------------------------------------------------------------

texts = st.text('ab\\u0é"', max_size=8)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(texts, json_values, max_size=4))
@example({"pattern": r"\u0000"})
def test_metadata_comes_back_as_it_was(metadata: dict[str, Any]) -> None:
    assert names.check_metadata(metadata) == metadata


def test_metadata_is_a_copy() -> None:
    given_ = {"layers": [1, {"units": 2}]}
    kept = names.check_metadata(given_)
    given_["layers"][1]["units"] = 3
    assert kept == {"layers": [1, {"units": 2}]}


@pytest.mark.parametrize(
    "metadata",
    [
        [1],
        "text",
        {"x": math.nan},
        {"x": math.inf},
        {"x": object()},
        {"x": "\0"},
        {"\0": 1},
        {"x": "\ud800"},
        {("a", "b"): 1},
        {"deep": {1: "one", "1": "uno"}},
    ],
)
def test_metadata_that_json_or_a_database_cannot_hold_is_refused(metadata: object) -> None:
    with pytest.raises(InvalidInputError, match="metadata"):
        names.check_metadata(metadata)


def test_metadata_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with pytest.raises(InvalidInputError, match="metadata"):
        names.check_metadata(loop)


def test_metadata_is_bounded_in_bytes() -> None:
    room = names.MAX_METADATA_BYTES - len(json.dumps({"x": ""}).encode())
    assert names.check_metadata({"x": "é" * (room // 2)})
    with pytest.raises(InvalidInputError, match="put it into a file"):
        names.check_metadata({"x": "é" * (room // 2 + 1)})


def test_description() -> None:
    assert names.check_description(None) is None
    assert names.check_description("Cats 🐈\n") == "Cats 🐈\n"
    for text in ("\0", 3, "\ud800", "é" * (1 << 15) + "x"):
        with pytest.raises(InvalidInputError, match="description"):
            names.check_description(text)


@pytest.mark.parametrize(
    ("uri", "of_chain"),
    [
        ("zip://a::file:///b", ["zip://a", "file:///b"]),
        ("zip://a::tar://b::s3://c/d", ["zip://a", "tar://b", "s3://c/d"]),
        ("sftp://h/std::vector.html", ["sftp://h/std::vector.html"]),
        ("zip://std::vector::memory://x", ["zip://std::vector", "memory://x"]),
    ],
)
def test_links_of_a_chain(uri: str, of_chain: list[str]) -> None:
    assert names.links(uri) == of_chain
