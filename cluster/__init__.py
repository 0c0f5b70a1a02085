"""The ground: settings, errors, storage, Ray session, replica pool, ledger."""
