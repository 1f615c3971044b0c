"""kafka-python against the broker at $BOOTSTRAP: admin, every codec, groups, offsets."""

import os
import uuid

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

BOOTSTRAP = os.environ["BOOTSTRAP"]


@pytest.fixture
def topic():
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    name = f"py-{uuid.uuid4().hex[:8]}"
    admin.create_topics([NewTopic(name=name, num_partitions=3, replication_factor=1)])
    yield name
    admin.delete_topics([name])
    admin.close()


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_what_goes_in_comes_out(topic, codec):
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", compression_type=codec)
    sent = {f"k{i}".encode(): f"wert {i}".encode() * 20 for i in range(500)}
    acks = [producer.send(topic, key=k, value=v, headers=[("h", b"x")]) for k, v in sent.items()]
    assert all(ack.get(30).offset >= 0 for ack in acks)
    producer.close()
    consumer = KafkaConsumer(
        topic, bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest", consumer_timeout_ms=30000
    )
    got = {}
    for record in consumer:
        assert record.headers == [("h", b"x")]
        got[record.key] = record.value
        if len(got) == len(sent):
            break
    consumer.close()
    assert got == sent


def test_a_group_goes_on_where_it_committed(topic):
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all")
    for i in range(100):
        producer.send(topic, value=str(i).encode(), partition=0)
    producer.flush()
    group = f"g-{uuid.uuid4().hex[:8]}"

    def read(count):
        consumer = KafkaConsumer(
            topic,
            bootstrap_servers=BOOTSTRAP,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=10,
            consumer_timeout_ms=30000,
        )
        values = []
        while len(values) < count:
            for records in consumer.poll(1000).values():
                values += [int(r.value) for r in records]
        consumer.commit()
        consumer.close()
        return values

    assert read(50) == list(range(50))
    assert read(50) == list(range(50, 100))


def test_offsets_by_time(topic):
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all")
    for i in range(10):
        producer.send(topic, value=b"v", partition=1, timestamp_ms=1_600_000_000_000 + i * 1000)
    producer.flush()
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP)
    partition = TopicPartition(topic, 1)
    assert consumer.beginning_offsets([partition])[partition] == 0
    assert consumer.end_offsets([partition])[partition] == 10
    found = consumer.offsets_for_times({partition: 1_600_000_004_500})[partition]
    assert (found.offset, found.timestamp) == (5, 1_600_000_005_000)
    consumer.close()
