from mcproxy.store import errors


def test_every_error_of_the_database_is_a_store_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind is not errors.StoreError]
    assert kinds
    assert all(issubclass(kind, errors.StoreError) for kind in kinds)
