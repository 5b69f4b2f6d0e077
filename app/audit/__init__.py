"""The audit: one row for every attempt to change a store, written before the store is touched."""
