"""One torrent in a libtorrent session, for the end-to-end tests.

    libtorrent_client.py run TORRENT|MAGNET FOLDER --listen ADDR:PORT [--peer ADDR:PORT] [--upload-limit BYTES]
                             [--download-limit BYTES] [--super-seed] [--encryption rc4|plaintext|both] [--lsd] [--dht ADDR:PORT]
    libtorrent_client.py node --listen ADDR:PORT [--dht ADDR:PORT]
    libtorrent_client.py show TORRENT
    libtorrent_client.py create PATH PIECE_LENGTH FILE...

With `--dht` (repeated: several nodes to begin with) a session uses the DHT; `node` does nothing else.
`run` and `node` print one JSON object a line until they are killed, `show` and `create` print one object. At SIGUSR1 `run`
forgets its limits.
"""
import argparse
import json
import os
import signal
import sys
import time

import libtorrent as lt


def say(**fields):
    print(json.dumps(fields), flush=True)


def place(text):
    """Host and port, of an address that has brackets when it is of IPv6."""
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)


def session(listen, encryption=None, lsd=False, dht=()):
    host = place(listen)[0]
    policy, level = (lt.enc_policy.pe_enabled, "both") if encryption is None else (lt.enc_policy.pe_forced, encryption)
    ses = lt.session({
        "listen_interfaces": listen,
        # A client that is alone on its host comes from the address that it listens at: it can be dialled in turn.
        "outgoing_interfaces": host if host.startswith("127.") else "",
        "enable_dht": bool(dht),
        # No node of the world. And all of ours are local, which it would not believe.
        "dht_bootstrap_nodes": "",
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_ignore_dark_internet": False,
        "dht_prefer_verified_node_ids": False,
        "enable_lsd": lsd,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "allow_multiple_connections_per_ip": True,
        "out_enc_policy": lt.enc_policy.pe_disabled if encryption is None else policy,
        "in_enc_policy": policy,
        "allowed_enc_level": getattr(lt.enc_level, level),
        "alert_mask": lt.alert.category_t.error_notification
        | lt.alert.category_t.peer_notification
        | lt.alert.category_t.connect_notification
        | lt.alert.category_t.tracker_notification
        | lt.alert.category_t.dht_notification
        | lt.alert.category_t.storage_notification,
    })
    know(ses, dht)
    return ses


def know(ses, dht):
    """Names nodes of the DHT. What it sends to them may be lost: to be called again while it knows none."""
    for node in dht:
        ses.add_dht_node(place(node))


def node(args):
    ses = session(args.listen, dht=args.dht)
    said, asked = None, time.monotonic()
    while True:
        for alert in ses.pop_alerts():
            print(alert, file=sys.stderr, flush=True)
        nodes = ses.status().dht_nodes
        if nodes != said:
            say(nodes=nodes)
            said = nodes
        if nodes == 0 and time.monotonic() > asked + 2:
            asked = time.monotonic()
            know(ses, args.dht)
        time.sleep(0.1)


def run(args):
    ses = session(args.listen, args.encryption, args.lsd, args.dht)
    if args.torrent.startswith("magnet:"):
        params = lt.parse_magnet_uri(args.torrent)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(args.torrent)
    params.save_path = args.folder
    params.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
    handle = ses.add_torrent(params)
    if args.super_seed:
        handle.set_flags(lt.torrent_flags.super_seeding)
    if args.upload_limit:
        handle.set_upload_limit(args.upload_limit)
    if args.download_limit:
        handle.set_download_limit(args.download_limit)
        # What it has asked for comes at once, and waits in the kernel.
        ses.apply_settings({"max_out_request_queue": 2})

    def hurry(*_):
        handle.set_upload_limit(-1)
        handle.set_download_limit(-1)
        ses.apply_settings({"max_out_request_queue": 500})

    signal.signal(signal.SIGUSR1, hurry)
    for peer in args.peer:
        handle.connect_peer(place(peer))
    said, asked, written = None, False, False
    while True:
        for alert in ses.pop_alerts():
            print(alert, file=sys.stderr, flush=True)
            written |= asked and isinstance(alert, lt.cache_flushed_alert)
        status = handle.status()
        if status.is_seeding and not asked:
            # It seeds what is verified, which its disk threads may still have to write.
            handle.flush_cache()
            asked = True
        now = dict(state=str(status.state), seeding=status.is_seeding, written=written, error=status.errc.message(),
                   downloaded=status.total_payload_download, uploaded=status.total_payload_upload,
                   peers=status.num_peers, served=any(not peer.flags & peer.remote_choked for peer in handle.get_peer_info()))
        if now != said:
            say(**now)
            said = now
        time.sleep(0.1)


def show(args):
    info = lt.torrent_info(args.torrent)
    files = info.files()
    say(name=info.name(), info_hash=str(info.info_hash()), length=info.total_size(),
        piece_length=info.piece_length(), pieces=info.num_pieces(), private=info.priv(),
        comment=info.comment(), created_by=info.creator(), creation_date=info.creation_date(),
        trackers=[[tracker.tier, tracker.url] for tracker in info.trackers()],
        files=[{"path": files.file_path(i), "length": files.file_size(i),
                "pad": bool(files.file_flags(i) & lt.file_flags_t.flag_pad_file)} for i in range(files.num_files())])


def create(args):
    """Makes a v1 torrent of PATH; FILE... are its files in the order wanted (none when PATH is a file)."""
    parent, name = os.path.split(os.path.abspath(args.path))
    storage = lt.file_storage()
    for path in [os.path.join(name, file) for file in args.files] or [name]:
        storage.add_file(path, os.path.getsize(os.path.join(parent, path)))
    made = lt.create_torrent(storage, args.piece_length, lt.create_torrent.v1_only)
    lt.set_piece_hashes(made, parent)
    info = lt.torrent_info(made.generate())
    hashes = [info.hash_for_piece(piece).hex() for piece in range(info.num_pieces())]
    say(info_hash=str(info.info_hash()), piece_hashes=hashes)


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run")
    command.add_argument("torrent")
    command.add_argument("folder")
    command.add_argument("--listen", required=True)
    command.add_argument("--peer", action="append", default=[])
    command.add_argument("--upload-limit", type=int, default=0)
    command.add_argument("--super-seed", action="store_true")
    command.add_argument("--download-limit", type=int, default=0)
    command.add_argument("--encryption", choices=["rc4", "plaintext", "both"])
    command.add_argument("--lsd", action="store_true")
    command.add_argument("--dht", action="append", default=[])
    command.set_defaults(call=run)
    command = commands.add_parser("node")
    command.add_argument("--listen", required=True)
    command.add_argument("--dht", action="append", default=[])
    command.set_defaults(call=node)
    command = commands.add_parser("show")
    command.add_argument("torrent")
    command.set_defaults(call=show)
    command = commands.add_parser("create")
    command.add_argument("path")
    command.add_argument("piece_length", type=int)
    command.add_argument("files", nargs="*")
    command.set_defaults(call=create)
    args = parser.parse_args()
    args.call(args)


main()
