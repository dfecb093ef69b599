import pytest

from router.errors import RequestInvalid
from router.wire.media import document_text, image
from router.wire.shapes import Source


def test_an_image_in_the_request_is_written_for_both_dialects() -> None:
    found = image(Source("base64", "image/png", "aGk="), "p")
    assert b'{"type":"base64","media_type":"image/png","data":"aGk="}' == found.source
    assert b'"data:image/png;base64,aGk="' == found.url


def test_an_image_on_the_web_stays_there() -> None:
    found = image(Source("url", url="https://a.test/b.png"), "p")
    assert (b'{"type":"url","url":"https://a.test/b.png"}', b'"https://a.test/b.png"') == (found.source, found.url)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source("file"), r"^p\.source: .*not as file"),
        (Source("url", url="file:///etc/passwd"), r"^p\.source\.url: must begin with https://"),
        (Source("url"), r"^p\.source\.url: "),
        (Source("base64", "text/plain", "aGk="), r"^p\.source\.media_type: "),
    ],
)
def test_other_images_are_refused(source: Source, said: str) -> None:
    with pytest.raises(RequestInvalid, match=said):
        image(source, "p")


def test_a_document_that_is_a_text_is_its_text() -> None:
    assert "words" == document_text(Source("text", "text/plain", "words"), "p")


@pytest.mark.parametrize(
    "source", [Source("base64", "application/pdf", "JVBE"), Source("url", url="https://a.test"), Source("file")]
)
def test_other_documents_are_refused_with_what_to_do(source: Source) -> None:
    with pytest.raises(RequestInvalid, match=r"^p\.source: local models take text and images.*send its text"):
        document_text(source, "p")
