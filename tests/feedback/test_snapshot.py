from tests.support.feedback import Room, a_days_events

def test_smoke(room: Room) -> None:
    room.append(a_days_events())
    print(room.consume())
    m = room.build()
    print(m.model_dump_json(indent=1))
