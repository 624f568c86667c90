"""What is told to a CDN: CloudFront's own answers are moto's, as there is no such server to run."""

import subprocess
import sys

import boto3
import pytest
from moto import mock_aws

from image_processor.cdn import AwsCredentials, CloudFront, NoCdn, public_address
from image_processor.errors import InvalidKeyError, MissingExtraError, UnavailableError
from image_processor.storage.base import NoGuard

KEYS = AwsCredentials(access_key_id="key", secret_access_key="secret")
ORIGIN = {
    "Id": "photos",
    "DomainName": "photos.s3.amazonaws.com",
    "S3OriginConfig": {"OriginAccessIdentity": ""},
}
DISTRIBUTION = {
    "CallerReference": "1",
    "Comment": "",
    "Enabled": True,
    "Origins": {"Quantity": 1, "Items": [ORIGIN]},
    "DefaultCacheBehavior": {"TargetOriginId": "photos", "ViewerProtocolPolicy": "https-only"},
}


@pytest.fixture
def amazon():
    with mock_aws():
        yield boto3.client("cloudfront", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


@pytest.fixture
def distribution_id(amazon):
    return amazon.create_distribution(DistributionConfig=DISTRIBUTION)["Distribution"]["Id"]


def invalidations(amazon, distribution_id):
    """Paths and reference of each."""
    listed = amazon.list_invalidations(DistributionId=distribution_id)["InvalidationList"].get("Items", [])
    for entry in listed:
        found = amazon.get_invalidation(DistributionId=distribution_id, Id=entry["Id"])["Invalidation"]
        yield found["InvalidationBatch"]["Paths"]["Items"], found["InvalidationBatch"]["CallerReference"]


def test_keys_are_forgotten_by_their_paths(amazon, distribution_id):
    cdn = CloudFront(distribution_id, credentials=KEYS)
    cdn.invalidate(["a/b.webp", "a/c.webp", "a/b.webp"])
    cdn.invalidate([])
    ((paths, _),) = invalidations(amazon, distribution_id)
    assert paths == ["/a/b.webp", "/a/c.webp"]


def test_the_path_of_the_public_address_stands_before_the_keys(amazon, distribution_id):
    CloudFront(distribution_id, cdn_url="https://cdn.example.org/img/", credentials=KEYS).invalidate(
        {"a.webp"}
    )
    ((paths, _),) = invalidations(amazon, distribution_id)
    assert paths == ["/img/a.webp"]


def test_many_keys_go_in_batches_each_with_a_reference_of_its_own(amazon, distribution_id):
    keys = [f"a/{number}.webp" for number in range(3001)]
    CloudFront(distribution_id, credentials=KEYS).invalidate(keys)
    told = list(invalidations(amazon, distribution_id))
    assert sorted(len(paths) for paths, _ in told) == [1, 3000]
    assert {path for paths, _ in told for path in paths} == {f"/{key}" for key in keys}
    assert len({reference for _, reference in told}) == 2


@pytest.mark.usefixtures("amazon")
def test_what_amazon_refuses_is_said_and_can_be_tried_again():
    with pytest.raises(UnavailableError, match="CLOUDFRONT_DISTRIBUTION_ID"):
        CloudFront("ABSENT", credentials=KEYS).invalidate(["a"])


def test_a_cdn_that_does_not_answer_is_unavailable_and_seen_by_its_guard():
    seen = []

    class Watching(NoGuard):
        def call(self, work, /, *args, **kwargs):
            try:
                return super().call(work, *args, **kwargs)
            except UnavailableError as error:
                seen.append(error)
                raise

    away = CloudFront("ID", credentials=KEYS, guard=Watching(), endpoint_url="http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match="cannot be reached"):
        away.invalidate(["a"])
    assert len(seen) == 1


def test_only_keys_are_told(amazon, distribution_id):
    cdn = CloudFront(distribution_id, credentials=KEYS)
    for key in ("../a", "*", "a/*", ""):
        with pytest.raises(InvalidKeyError):
            cdn.invalidate(["a", key])
    assert list(invalidations(amazon, distribution_id)) == []


def test_without_a_cdn_nothing_happens():
    NoCdn().invalidate(["a"])


@pytest.mark.parametrize("url", ["https://cdn.example.org/img", "https://cdn.example.org/img/"])
def test_a_public_address_is_the_key_below_the_cdn(url):
    address = public_address(url)
    assert address("a/b.webp") == "https://cdn.example.org/img/a/b.webp"
    with pytest.raises(InvalidKeyError):
        address("../b")


def test_nothing_of_amazon_is_loaded_before_it_is_asked_for():
    code = "import sys, image_processor.cdn, image_processor.storage.buckets; print('boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_without_the_extra_the_answer_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtraError, match=r"image-processor\[s3\]"):
        CloudFront("ID", credentials=KEYS)
