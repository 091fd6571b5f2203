"""Registrations at random, all of them valid."""

from hypothesis import strategies as st

names = st.sampled_from(["billing", "a", "x.y", "zone_1", "A-b", "7" * 63])
ids = names | st.sampled_from(["host:app:8080", "a@b", "a:1:2", "x" * 128])
printable = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=100)
anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)
urls = st.builds(
    "{}://{}:{}{}".format,
    st.sampled_from(["http", "https", "HTTPS", "grpc"]),
    st.sampled_from(["a", "db1.Example.org", "10.0.0.7", "[2001:db8::7]", "[::1]"]),
    st.integers(1, 65535),
    st.sampled_from(["", "/", "/base", "/a/b;c=d,e/%20"]),
)
registrations = st.fixed_dictionaries(
    {"service_name": names, "service_url": urls},
    optional={
        "instance_id": ids,
        "health_check_url": st.sampled_from([None, "http://a/health?deep=1", "https://[::1]:9/"]),
        "metadata": st.dictionaries(anything, anything, max_size=30),
        "tags": st.lists(printable, max_size=32),
        "weight": st.integers(0, 1000),
        "zone": st.none() | names,
        "version": st.none() | printable,
        "ttl_seconds": st.integers(1, 86_400),
        "warmup_seconds": st.floats(0, 86_400),
    },
)
