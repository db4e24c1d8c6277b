"""Notes of an administration, which belong to no queue: the record of changes, and documents with a time to live."""

from __future__ import annotations

from taskfleet.redis.queue_calls import QueueCalls

AUDIT_ENTRIES = 5000
_AUDIT_MS = 90 * 86_400_000


class Noting(QueueCalls):
    """The record has a bounded number of entries, and goes when nothing was added for 90 days."""

    async def note_change(self, entry: bytes) -> None:
        """Add an entry to the record of changes. The oldest of more than `AUDIT_ENTRIES` goes."""
        key = self.fleet.audit

        async def push() -> None:
            pipeline = self.client.redis.pipeline(transaction=False)
            pipeline.lpush(key, entry)
            pipeline.ltrim(key, 0, AUDIT_ENTRIES - 1)
            pipeline.pexpire(key, _AUDIT_MS)
            await pipeline.execute()

        await self.patiently(push, of_call=[key])

    async def noted_changes(self, offset: int, limit: int) -> list[bytes]:
        """Entries of the record, the latest first."""
        key = self.fleet.audit
        found: list[bytes] = await self.patiently(
            lambda: self.client.redis.lrange(key, offset, offset + limit - 1), of_call=[key]
        )
        return found

    async def put_note(self, name: str, document: bytes, *, ttl_seconds: float) -> None:
        """Keep a document under a name."""
        key = self.fleet.note(name)
        await self.patiently(lambda: self.client.redis.set(key, document, px=int(ttl_seconds * 1000)), of_call=[key])

    async def note(self, name: str) -> bytes | None:
        """The document of that name, while it is kept."""
        key = self.fleet.note(name)
        found: bytes | None = await self.patiently(lambda: self.client.redis.get(key), of_call=[key])
        return found
