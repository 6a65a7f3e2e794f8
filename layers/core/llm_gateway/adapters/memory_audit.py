"""`ports.AuditTrail` without AWS."""

from llm_gateway.domain.audit import AuditEvent, AuditFilter, AuditPage, AuditPosition


class MemoryAuditTrail:
    """In a dictionary. `events` is open to a test that wants to look."""

    def __init__(self) -> None:
        self.events: dict[str, AuditEvent] = {}

    async def record(self, event: AuditEvent) -> None:
        self.events.setdefault(event.event_id, event)

    async def page(self, wanted: AuditFilter, after: AuditPosition | None, limit: int) -> AuditPage:
        found = {AuditPosition(each.at_ms, each.event_id): each for each in self.events.values() if wanted.has(each)}
        places = sorted((place for place in found if after is None or place < after), reverse=True)
        page = [found[place] for place in places[:limit]]
        return AuditPage(page, places[limit - 1] if len(places) > limit else None)
