"""A subscriber and a publisher on paho-mqtt with the arguments and the output of mosquitto_sub and
mosquitto_pub, as far as the test `clients` uses them."""

import argparse
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

VERSIONS = {"mqttv31": mqtt.MQTTv31, "mqttv311": mqtt.MQTTv311, "mqttv5": mqtt.MQTTv5}


def main():
    arguments = parse_arguments()
    if arguments.verb == "sub":
        subscribe(arguments)
    else:
        publish(arguments)


def parse_arguments():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("verb", choices=["sub", "pub"])
    parser.add_argument("-h", dest="host", required=True)
    parser.add_argument("-p", dest="port", type=int, required=True)
    parser.add_argument("-V", dest="version", choices=VERSIONS, required=True)
    parser.add_argument("-i", dest="id", default="")
    parser.add_argument("-t", dest="topic", required=True)
    parser.add_argument("-q", dest="qos", type=int, default=0)
    parser.add_argument("-c", dest="keep_session", action="store_true")
    parser.add_argument("-x", dest="session_expiry", type=int)
    parser.add_argument("-C", dest="leave_after", type=int)
    parser.add_argument("-d", dest="debug", action="store_true")
    parser.add_argument("-F", dest="format")
    parser.add_argument("-m", dest="message")
    parser.add_argument("-l", dest="lines", action="store_true")
    parser.add_argument("-r", dest="retain", action="store_true")
    parser.add_argument("--will-topic")
    parser.add_argument("--will-payload")
    parser.add_argument("--will-qos", type=int, default=0)
    parser.add_argument("-D", dest="property", nargs=3)
    parser.add_argument("-u", dest="user")
    parser.add_argument("-P", dest="password")
    parser.add_argument("-A", dest="bind_address", default="")
    parser.add_argument("--cafile")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--ws", dest="path", help="the path of a WebSocket")
    return parser.parse_args()


def say(*words):
    print(*words, flush=True)


def connect(arguments, client):
    """Sends CONNECT. Clean session and clean start are one choice here, as in mosquitto_sub."""
    client.on_log = lambda _client, _userdata, _level, text: say(text)
    if arguments.will_topic:
        properties = None
        if arguments.property:
            of_packet, name, value = arguments.property
            assert (of_packet, name) == ("will", "will-delay-interval")
            properties = Properties(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = int(value)
        client.will_set(
            arguments.will_topic, arguments.will_payload, arguments.will_qos, properties=properties
        )
    if arguments.version == "mqttv5":
        properties = Properties(PacketTypes.CONNECT)
        if arguments.session_expiry is not None:
            properties.SessionExpiryInterval = arguments.session_expiry
        clean_start = not arguments.keep_session
        client.connect(
            arguments.host,
            arguments.port,
            bind_address=arguments.bind_address,
            clean_start=clean_start,
            properties=properties,
        )
    else:
        client.connect(arguments.host, arguments.port, bind_address=arguments.bind_address)


def new_client(arguments):
    version = VERSIONS[arguments.version]
    clean = None if version == mqtt.MQTTv5 else not arguments.keep_session
    # Client ids may be empty from MQTT 3.1.1 on; paho makes one up for MQTT 3.1.
    transport = "websockets" if arguments.path else "unix" if arguments.host.startswith("/") else "tcp"
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, arguments.id, clean, protocol=version, transport=transport
    )
    if arguments.path:
        client.ws_set_options(arguments.path)
    if arguments.cafile:
        client.tls_set(arguments.cafile, arguments.cert, arguments.key)
    if arguments.user is not None:
        client.username_pw_set(arguments.user, arguments.password)
    return client


def subscribe(arguments):
    client = new_client(arguments)
    received = 0

    def on_connect(client, _userdata, _flags, reason, _properties):
        if reason.is_failure:
            sys.exit(f"CONNACK: {reason}")
        client.subscribe(arguments.topic, arguments.qos)

    def on_subscribe(_client, _userdata, mid, reasons, _properties):
        say(f"Subscribed (mid: {mid}): {reasons[0].value}")

    def on_message(_client, _userdata, message):
        nonlocal received
        received += 1
        payload = message.payload.decode()
        say("message", message.topic, message.qos, int(message.retain), payload)

    def on_disconnect(_client, _userdata, _flags, reason, _properties):
        say("disconnected", reason.value)

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    client.on_disconnect = on_disconnect
    connect(arguments, client)
    # One thread, so that the acknowledgement of the last message leaves before DISCONNECT does.
    while client.loop() == mqtt.MQTT_ERR_SUCCESS:
        if arguments.leave_after is not None and received >= arguments.leave_after:
            client.disconnect()
            while client.loop() == mqtt.MQTT_ERR_SUCCESS:
                pass
            return
    sys.exit("the connection ended")


def publish(arguments):
    client = new_client(arguments)
    payloads = sys.stdin.read().splitlines() if arguments.lines else [arguments.message]

    def on_connect(_client, _userdata, _flags, reason, _properties):
        if reason.is_failure:
            sys.exit(f"CONNACK: {reason}")

    def on_publish(_client, _userdata, mid, reason, _properties):
        say(f"Published (mid: {mid}): {reason.value}")

    client.on_connect = on_connect
    client.on_publish = on_publish
    connect(arguments, client)
    client.loop_start()
    for payload in payloads:
        sent = client.publish(arguments.topic, payload, arguments.qos, arguments.retain)
        sent.wait_for_publish(timeout=30)
        if not sent.is_published():
            sys.exit("not acknowledged")
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
