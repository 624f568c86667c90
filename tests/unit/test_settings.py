"""Every setting is read by its name, and one that is wrong stops the start with a sentence that names it."""

import base64
import math
import secrets
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from image_processor.errors import ConfigurationError
from image_processor.pipeline import ImageFormat, Resize, WebpOutput
from image_processor.settings import EXAMPLE_SECRETS, MIB, Settings, load_settings

ENV_EXAMPLE = Path(__file__).parents[2] / ".env.example"


@pytest.fixture(autouse=True)
def _an_empty_folder_and_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)


WEBHOOK_SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()

BY_NAME = [
    ("SERVICE_NAME", "my-images", "service_name", "my-images"),
    ("VERSION", "2.3.4", "version", "2.3.4"),
    ("LOG_FORMAT", "json", "log_format", "json"),
    ("HOST", "0.0.0.0", "host", "0.0.0.0"),
    ("PORT", "9000", "port", 9000),
    (
        "CORS_ORIGINS",
        "https://a.example, https://b.example",
        "cors_origins",
        ("https://a.example", "https://b.example"),
    ),
    ("CORS_ORIGINS", '["https://a.example"]', "cors_origins", ("https://a.example",)),
    ("DATA_PATH", "/srv/pictures", "data_path", Path("/srv/pictures")),
    ("DATABASE_PATH", "/data/processor.db", "database", Path("/data/processor.db")),
    ("STORAGE_PATH", "/data/storage", "storage", Path("/data/storage")),
    ("STAGING_PATH", "/data/staging", "staging", Path("/data/staging")),
    ("STORAGE_BACKEND", "s3", "storage_backend", "s3"),
    ("CDN_URL", "https://cdn.example/pictures", "cdn_url", "https://cdn.example/pictures"),
    ("CLOUDFRONT_DISTRIBUTION_ID", "E2EXAMPLE", "cloudfront_distribution_id", "E2EXAMPLE"),
    ("PRESIGNED_URL_SECONDS", "3600", "presigned_url_seconds", 3600),
    ("UPLOAD_URL_SECONDS", "60", "upload_url_seconds", 60),
    ("MAX_OPEN_UPLOADS", "0", "max_open_uploads", 0),
    ("S3_BUCKET", "pictures", "s3_bucket", "pictures"),
    ("S3_INCOMING_BUCKET", "incoming", "s3_incoming_bucket", "incoming"),
    ("S3_JOB_BUCKETS", "one,two", "s3_job_buckets", ("one", "two")),
    ("AWS_REGION", "eu-west-1", "aws_region", "eu-west-1"),
    ("AWS_ACCESS_KEY_ID", "key", "aws_access_key_id", "key"),
    ("AWS_SECRET_ACCESS_KEY", "its secret", "aws_secret_access_key", "its secret"),
    ("AWS_SESSION_TOKEN", "token", "aws_session_token", "token"),
    ("S3_ENDPOINT_URL", "http://minio:9000", "s3_endpoint_url", "http://minio:9000"),
    (
        "S3_PUBLIC_ENDPOINT_URL",
        "https://s3.example",
        "s3_public_endpoint_url",
        "https://s3.example",
    ),
    ("S3_ADDRESSING_STYLE", "path", "s3_addressing_style", "path"),
    ("S3_CHECKSUMS", "when_required", "s3_checksums", "when_required"),
    ("S3_SSE", "true", "s3_sse", True),
    ("S3_STORAGE_CLASS", "STANDARD_IA", "s3_storage_class", "STANDARD_IA"),
    ("S3_CACHE_CONTROL", "public, max-age=60", "s3_cache_control", "public, max-age=60"),
    ("S3_DIRECT_UPLOAD", "put", "s3_direct_upload", "put"),
    ("S3_MULTIPART_THRESHOLD_MB", "8", "s3_multipart_threshold_mb", 8),
    ("S3_CONNECT_TIMEOUT_SECONDS", "1.5", "s3_connect_timeout_seconds", 1.5),
    ("S3_READ_TIMEOUT_SECONDS", "5", "s3_read_timeout_seconds", 5),
    ("S3_MAX_ATTEMPTS", "1", "s3_max_attempts", 1),
    ("BREAKER_FAIL_MAX", "3", "breaker_fail_max", 3),
    ("BREAKER_RESET_SECONDS", "10", "breaker_reset_seconds", 10),
    ("S3_BUCKET_ORIGINAL", "photos", "s3_bucket_original", "photos"),
    ("S3_BUCKET_VISUALIZATION", "maps", "s3_bucket_visualization", "maps"),
    ("S3_PRESIGNED_URL_EXPIRY_HOURS", "48", "s3_presigned_url_expiry_hours", 48),
    ("MIN_FREE_DISK_MB", "3", "min_free_bytes", 3 * MIB),
    ("JWT_SECRET_KEY", "mine", "jwt_secret_key", "mine"),
    ("JWT_PREVIOUS_SECRETS", "one,two", "jwt_previous_secrets", ("one", "two")),
    ("JWT_ALGORITHM", "HS512", "jwt_algorithm", "HS512"),
    ("JWT_PUBLIC_KEY", "/etc/keys/issuer.pem", "jwt_public_key", "/etc/keys/issuer.pem"),
    ("JWT_JWKS_URL", "https://id.example/jwks.json", "jwt_jwks_url", "https://id.example/jwks.json"),
    ("JWT_JWKS_SECONDS", "60", "jwt_jwks_seconds", 60),
    ("JWT_AUDIENCE", "images", "jwt_audience", "images"),
    ("JWT_ISSUER", "https://id.example/", "jwt_issuer", "https://id.example/"),
    ("JWT_LEEWAY_SECONDS", "30", "jwt_leeway_seconds", 30),
    ("AUTH_REQUIRED", "false", "auth_required", False),
    ("RATE_LIMIT_MAX_UPLOADS", "7", "rate_limit_max_uploads", 7),
    ("RATE_LIMIT_WINDOW_MINUTES", "5", "rate_limit_window_minutes", 5),
    ("MAX_UPLOAD_SIZE_MB", "20", "max_upload_size_mb", 20),
    ("MAX_UPLOAD_SIZE_MB", "0.5", "max_upload_size_mb", 0.5),
    ("UPLOAD_TIMEOUT_SECONDS", "12", "upload_timeout_seconds", 12),
    ("MAX_MEGAPIXELS", "24", "max_megapixels", 24),
    ("MAX_SIDE_PIXELS", "4000", "max_side_pixels", 4000),
    ("MAX_FRAMES", "1", "max_frames", 1),
    ("ALLOWED_MIME_TYPES", '["image/jpeg","image/png"]', "accepts", (ImageFormat.JPEG, ImageFormat.PNG)),
    ("ALLOWED_MIME_TYPES", "image/webp, image/gif", "accepts", (ImageFormat.WEBP, ImageFormat.GIF)),
    ("ALLOWED_MIME_TYPES", "image/png", "accepts", (ImageFormat.PNG,)),
    ("WEBP_QUALITY", "70", "webp_quality", 70),
    ("IMAGE_SIZES", '{"tiny":16,"huge":3000}', "image_sizes", {"tiny": 16, "huge": 3000}),
    ("WORKERS", "77", "workers", 77),
    ("CODEC_MEMORY_MB", "512", "codec_memory_mb", 512),
    ("LEASE_SECONDS", "60", "lease_seconds", 60),
    ("POLL_SECONDS", "2.5", "poll_seconds", 2.5),
    ("MAX_RETRIES", "0", "max_retries", 0),
    ("JOB_TTL_HOURS", "1", "job_ttl_hours", 1),
    ("RETENTION_DAYS", "2", "retention_days", 2),
    ("DATABASE_URL", "postgresql://me@db/images", "database_url", "postgresql://me@db/images"),
    ("JOIN_DUPLICATES", "false", "join_duplicates", False),
    ("IDEMPOTENCY_HOURS", "1.5", "idempotency_hours", 1.5),
    ("QUEUE_BACKEND", "celery", "queue_backend", "celery"),
    ("REDIS_URL", "redis://broker/1", "redis_url", "redis://broker/1"),
    ("CELERY_BROKER_URL", "redis://broker/2", "celery_broker_url", "redis://broker/2"),
    ("QUEUE_NAMESPACE", "mine", "queue_namespace", "mine"),
    ("STALL_SECONDS", "5", "stall_seconds", 5),
    ("FILE_ROOTS", "/srv/in,/srv/out", "file_roots", (Path("/srv/in"), Path("/srv/out"))),
    ("PRIVATE_NETWORKS", "10.1.0.0/16", "private_networks", (IPv4Network("10.1.0.0/16"),)),
    ("FETCH_TIMEOUT_SECONDS", "7", "fetch_timeout_seconds", 7),
    ("WEBHOOK_SECRET", WEBHOOK_SECRET, "webhook_secret", WEBHOOK_SECRET),
    ("WEBHOOK_MAX_RETRIES", "0", "webhook_max_retries", 0),
    ("WEBHOOK_TIMEOUT_SECONDS", "3", "webhook_timeout_seconds", 3),
]


@pytest.mark.parametrize(("variable", "text", "name", "value"), BY_NAME)
def test_is_read_from_the_environment_by_its_name(monkeypatch, variable, text, name, value):
    assert getattr(Settings(), name) != value
    monkeypatch.setenv(variable, text)
    assert getattr(load_settings(), name) == value


def test_no_field_is_left_out_of_the_table_above():
    assert {row[0].lower() for row in BY_NAME} == set(Settings.model_fields) - {"presets_file"}


def test_the_presets_file_is_read(monkeypatch, tmp_path):
    file = tmp_path / "own.toml"
    file.write_text('[[presets.card.variants]]\nname = "front"\noutput = { format = "jpeg" }\n')
    monkeypatch.setenv("PRESETS_FILE", str(file))
    assert set(load_settings().presets) == {"web", "thumbnails", "avatar", "card"}


def test_a_network_that_is_none_is_named_in_one_sentence(monkeypatch):
    monkeypatch.setenv("PRIVATE_NETWORKS", "10.0.0.1/8")
    with pytest.raises(ConfigurationError, match=r"PRIVATE_NETWORKS: .*10\.0\.0\.1/8 has host bits set"):
        load_settings()


def test_a_preset_of_ones_own_named_web_replaces_the_built_in_one(monkeypatch, tmp_path):
    file = tmp_path / "own.toml"
    file.write_text('[[presets.web.variants]]\nname = "front"\noutput = { format = "jpeg" }\n')
    monkeypatch.setenv("PRESETS_FILE", str(file))
    assert [variant.name for variant in load_settings().presets["web"].pipeline.variants] == ["front"]


def test_without_anything_set_all_is_as_documented():
    settings = load_settings()
    assert settings.binds_to_loopback
    assert not settings.has_own_secret()
    assert settings.auth_required
    assert settings.limits.max_bytes == 10 * MIB
    assert settings.allowed_mime_types == ("image/jpeg", "image/png", "image/webp")
    assert (settings.rate_limit_max_uploads, settings.rate_limit_window_minutes) == (50, 60)
    assert settings.image_sizes == {"thumbnail": 150, "medium": 600, "large": 1200, "original": 4096}
    assert (settings.webp_quality, settings.jwt_algorithm, settings.service_name) == (
        85,
        "HS256",
        "image-processor",
    )


def test_sizes_and_quality_make_the_preset_web(monkeypatch):
    monkeypatch.setenv("IMAGE_SIZES", '{"tiny":16,"huge":3000}')
    monkeypatch.setenv("WEBP_QUALITY", "70")
    variants = load_settings().presets["web"].pipeline.variants
    assert [(v.name, v.operations, v.output) for v in variants] == [
        ("tiny", (Resize(width=16),), WebpOutput(quality=70)),
        ("huge", (Resize(width=3000),), WebpOutput(quality=70)),
    ]


def test_limits_come_from_their_variables(monkeypatch):
    for name, value in {
        "MAX_UPLOAD_SIZE_MB": "1.5",
        "MAX_MEGAPIXELS": "0.25",
        "MAX_SIDE_PIXELS": "800",
        "MAX_FRAMES": "9",
    }.items():
        monkeypatch.setenv(name, value)
    limits = load_settings().limits
    assert (limits.max_bytes, limits.max_pixels, limits.max_side, limits.max_frames) == (
        1_572_864,
        250_000,
        800,
        9,
    )


def test_what_uploads_may_be_holds_for_the_preset_web(monkeypatch):
    monkeypatch.setenv("ALLOWED_MIME_TYPES", "image/png,image/gif")
    monkeypatch.setenv("MAX_UPLOAD_SIZE_MB", "20")
    monkeypatch.setenv("MAX_MEGAPIXELS", "200")
    settings = load_settings()
    assert settings.presets["web"].accepts == settings.accepts == (ImageFormat.PNG, ImageFormat.GIF)
    assert settings.presets["web"].limits == settings.limits
    assert settings.presets["thumbnails"].limits.max_bytes == 10 * MIB


def test_the_paths_lie_under_the_data_path_and_are_absolute(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_PATH", "pictures")
    settings = load_settings()
    assert settings.database == tmp_path / "pictures" / "processor.db"
    assert settings.storage == tmp_path / "pictures" / "storage"
    assert settings.staging == tmp_path / "pictures" / "staging"
    assert settings.scratch == tmp_path / "pictures" / "scratch"


def test_the_env_file_is_read_with_comments_and_quotes(tmp_path):
    (tmp_path / ".env").write_text(
        "# the service\n"
        "SERVICE_NAME='bücher'\n"
        "STORAGE_BACKEND=local              # or 's3'\n"
        "MAX_UPLOAD_SIZE_MB=20\n"
        'ALLOWED_MIME_TYPES=["image/jpeg","image/png"]\n'
        'IMAGE_SIZES={"thumbnail":100}\n'
        "SOMETHING_ELSE=ignored\n"
    )
    settings = load_settings()
    assert settings.service_name == "bücher"
    assert settings.max_upload_size_mb == 20
    assert settings.accepts == (ImageFormat.JPEG, ImageFormat.PNG)
    assert settings.image_sizes == {"thumbnail": 100}


def test_the_environment_goes_before_the_env_file_and_arguments_before_both(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("PORT=1111\nHOST=file\nWORKERS=2\n")
    monkeypatch.setenv("PORT", "2222")
    monkeypatch.setenv("HOST", "environment")
    settings = load_settings(port=3333, host=None)
    assert (settings.port, settings.host, settings.workers) == (3333, "environment", 2)


SEED_ENVIRONMENT = {
    "SERVICE_NAME": "image-processor",
    "VERSION": "1.0.0",
    "DATABASE_PATH": "/data/processor.db",
    "STORAGE_BACKEND": "local",
    "STORAGE_PATH": "/data/storage",
    "AWS_REGION": "eu-west-1",
    "REDIS_URL": "redis://redis:6379/0",
    "JWT_SECRET_KEY": "CHANGE_THIS_IN_PRODUCTION",
    "JWT_ALGORITHM": "HS256",
    "RATE_LIMIT_MAX_UPLOADS": "50",
    "RATE_LIMIT_WINDOW_MINUTES": "60",
    "MAX_UPLOAD_SIZE_MB": "10",
    "ALLOWED_MIME_TYPES": '["image/jpeg","image/png","image/webp"]',
    "WEBP_QUALITY": "85",
    "IMAGE_SIZES": '{"thumbnail":150,"medium":600,"large":1200,"original":4096}',
}


@pytest.mark.parametrize("source", ["environment", "file"])
def test_the_documented_environment_is_taken_as_it_stands(tmp_path, monkeypatch, source):
    if source == "file":
        (tmp_path / ".env").write_text("".join(f"{name}={text}\n" for name, text in SEED_ENVIRONMENT.items()))
    else:
        for name, text in SEED_ENVIRONMENT.items():
            monkeypatch.setenv(name, text)
    settings = load_settings()
    assert (settings.version, settings.database) == ("1.0.0", Path("/data/processor.db"))
    assert not settings.has_own_secret()


def test_the_example_file_is_what_holds_without_it(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(ENV_EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    from_file = load_settings()
    assert not from_file.has_own_secret()
    (tmp_path / ".env").unlink()
    assert from_file.model_dump() == load_settings().model_dump()


def test_every_commented_setting_of_the_example_file_can_be_switched_on(tmp_path):
    lines = ENV_EXAMPLE.read_text(encoding="utf-8").splitlines()
    switched = [line.removeprefix("#") for line in lines if line.startswith("#") and line[1:2].isupper()]
    (tmp_path / ".env").write_text("\n".join(switched), encoding="utf-8")
    assert switched
    load_settings()
    names = {
        line.partition("=")[0].lstrip("#") for line in lines if "=" in line and line.lstrip("#")[:1].isupper()
    }
    assert names >= set(SEED_ENVIRONMENT) - {"REDIS_URL"}
    assert {name.lower() for name in names} <= set(Settings.model_fields)


NOT_VALID = [
    ("PORT", "http"),
    ("PORT", "65536"),
    ("PORT", "-1"),
    ("LOG_FORMAT", "xml"),
    ("STORAGE_BACKEND", "floppy"),
    ("CDN_URL", "cdn.example"),
    ("S3_ENDPOINT_URL", "ftp://minio"),
    ("S3_STORAGE_CLASS", "cheap"),
    ("S3_PRESIGNED_URL_EXPIRY_HOURS", "169"),
    ("PRESIGNED_URL_SECONDS", "604801"),
    ("JWT_ALGORITHM", "none"),
    ("JWT_ALGORITHM", "PS256"),
    ("JWT_ALGORITHM", "HS256,RS256"),
    ("JWT_JWKS_SECONDS", "9"),
    ("JWT_LEEWAY_SECONDS", "301"),
    ("AUTH_REQUIRED", "perhaps"),
    ("RATE_LIMIT_MAX_UPLOADS", "-1"),
    ("RATE_LIMIT_MAX_UPLOADS", "9" * 30),
    ("RATE_LIMIT_MAX_UPLOADS", "many"),
    ("RATE_LIMIT_WINDOW_MINUTES", "0"),
    ("RATE_LIMIT_WINDOW_MINUTES", "9" * 30),
    ("MAX_UPLOAD_SIZE_MB", "0"),
    ("MAX_UPLOAD_SIZE_MB", "0.0000001"),
    ("MAX_UPLOAD_SIZE_MB", "10MB"),
    ("MAX_UPLOAD_SIZE_MB", "nan"),
    ("UPLOAD_TIMEOUT_SECONDS", "inf"),
    ("MAX_MEGAPIXELS", "inf"),
    ("MAX_MEGAPIXELS", "1e-9"),
    ("MAX_MEGAPIXELS", "1e300"),
    ("MAX_SIDE_PIXELS", "65536"),
    ("MAX_FRAMES", "0"),
    ("ALLOWED_MIME_TYPES", "image/svg+xml"),
    ("ALLOWED_MIME_TYPES", "image/jpg"),
    ("ALLOWED_MIME_TYPES", '["image/jpeg"'),
    ("ALLOWED_MIME_TYPES", "[]"),
    ("ALLOWED_MIME_TYPES", ","),
    ("ALLOWED_MIME_TYPES", "[1]"),
    ("CORS_ORIGINS", '{"a": 1}'),
    ("WEBP_QUALITY", "0"),
    ("WEBP_QUALITY", "101"),
    ("IMAGE_SIZES", "{"),
    ("IMAGE_SIZES", "{}"),
    ("IMAGE_SIZES", "150"),
    ("IMAGE_SIZES", '["thumbnail"]'),
    ("IMAGE_SIZES", '{"thumbnail": 0}'),
    ("IMAGE_SIZES", '{"thumbnail": 65536}'),
    ("IMAGE_SIZES", '{"thumbnail": "wide"}'),
    ("IMAGE_SIZES", '{"../thumbnail": 150}'),
    ("IMAGE_SIZES", '{"": 150}'),
    ("WORKERS", "0"),
    ("WORKERS", "257"),
    ("CODEC_MEMORY_MB", "1"),
    ("LEASE_SECONDS", "0"),
    ("POLL_SECONDS", "1e300"),
    ("MAX_RETRIES", "21"),
    ("JOB_TTL_HOURS", "inf"),
    ("RETENTION_DAYS", "1e300"),
    ("MIN_FREE_DISK_MB", "-1"),
]


@pytest.mark.parametrize(("variable", "text"), NOT_VALID)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(monkeypatch, variable, text):
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert f" {variable}" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "pydantic" not in str(refused.value)


def test_a_wrong_size_is_named(monkeypatch):
    monkeypatch.setenv("IMAGE_SIZES", '{"thumbnail": 150, "Large One": 1200}')
    with pytest.raises(ConfigurationError, match=r"IMAGE_SIZES.*'Large One'"):
        load_settings()


def test_all_wrong_variables_are_named_at_once(monkeypatch):
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("WORKERS", "none")
    with pytest.raises(ConfigurationError, match=r"PORT: .*; WORKERS: "):
        load_settings()


def test_a_secret_never_stands_in_a_refusal(monkeypatch):
    monkeypatch.setenv("JWT_SECRET_KEY", "hunter2hunter2")
    monkeypatch.setenv("PORT", "hunter3")
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert "hunter" not in str(refused.value)


def test_a_backend_that_there_is_not_is_refused_with_those_that_are(monkeypatch):
    monkeypatch.setenv("STORAGE_BACKEND", "ftp")
    with pytest.raises(ConfigurationError, match="STORAGE_BACKEND: Input should be 'local' or 's3'"):
        load_settings()


def test_an_env_file_that_is_no_text_is_refused_by_its_name(tmp_path):
    (tmp_path / ".env").write_bytes(b"SERVICE_NAME=\xff\xfe\n")
    with pytest.raises(ConfigurationError, match=r"\.env"):
        load_settings()


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_an_empty_variable_counts_as_not_set(monkeypatch, name):
    default = getattr(load_settings(), name)
    monkeypatch.setenv(name.upper(), "")
    assert getattr(load_settings(), name) == default


@pytest.mark.parametrize("secret", ["", *sorted(EXAMPLE_SECRETS)])
def test_no_secret_and_printed_ones_are_nobodys_own(secret):
    assert not Settings(jwt_secret_key=secret).has_own_secret()


@pytest.mark.parametrize(
    "secret",
    [
        "change-me-to-a-long-and-random-string",
        "CHANGE_ME" + "0" * 64,
        "Replace this with the output of openssl rand",
        "your-super-secret-jwt-key-of-32-bytes",
        "<your secret key, at least 32 characters>",
        "dev-secret-key-0123456789abcdef0123456789",
        "supersecretsupersecretsupersecret",
    ],
)
def test_variations_of_printed_secrets_are_nobodys_own(secret):
    assert not Settings(jwt_secret_key=secret).has_own_secret()
    assert not Settings(jwt_secret_key="x" * 32, jwt_previous_secrets=(secret,)).has_own_secret()


@pytest.mark.parametrize(
    "secret",
    [secrets.token_hex(32), "the secret of a changeling, not an example"],
    ids=["random", "words"],
)
def test_other_secrets_are_ones_own(secret):
    assert Settings(jwt_secret_key=secret).has_own_secret()


@pytest.mark.parametrize(
    ("algorithm", "secret", "previous", "is_short"),
    [
        ("HS256", "x" * 31, (), True),
        ("HS256", "x" * 32, (), False),
        ("HS256", "ü" * 16, (), False),
        ("HS384", "x" * 47, (), True),
        ("HS512", "x" * 63, (), True),
        ("HS512", "x" * 64, (), False),
        ("HS256", "x" * 32, ("x" * 31,), True),
        ("RS256", "x" * 31, (), True),
        ("RS256", "", (), False),
    ],
)
def test_a_secret_is_as_long_as_its_hash(algorithm, secret, previous, is_short):
    settings = Settings(jwt_algorithm=algorithm, jwt_secret_key=secret, jwt_previous_secrets=previous)
    assert settings.has_short_secret() is is_short


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
    ],
)
def test_only_loopback_is_loopback(host, is_loopback):
    assert Settings(host=host).binds_to_loopback is is_loopback


def test_a_missing_presets_file_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PRESETS_FILE", str(tmp_path / "absent.toml"))
    with pytest.raises(ConfigurationError, match=r"absent\.toml"):
        load_settings()


def test_numbers_of_a_loaded_setting_are_finite():
    numbers = [value for value in load_settings().model_dump().values() if isinstance(value, int | float)]
    assert len(numbers) > 10
    assert all(map(math.isfinite, numbers))
