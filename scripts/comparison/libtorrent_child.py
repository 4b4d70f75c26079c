"""libtorrent in a process of its own: seeds, downloads or checks, and tells what happens by lines of JSON."""

import json
import sys
import time

import libtorrent as lt


def peak_memory():
    """Of this process, in MiB: not of what has started it."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024


def main(mode, profile, torrent, folder, port, resume):
    tell = lambda event, **more: print(json.dumps({"event": event, **more}), flush=True)
    settings = lt.high_performance_seed() if profile == "high_performance_seed" else lt.default_settings()
    settings.update({
        "listen_interfaces": f"127.0.0.1:{port}", "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
        "enable_natpmp": False, "enable_incoming_utp": False, "enable_outgoing_utp": False,
        "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.storage_notification,
    })
    if profile == "two hashing threads":
        settings["hashing_threads"] = 2
    session = lt.session(settings)

    def until(kind):
        while True:
            session.wait_for_alert(1000)
            for alert in session.pop_alerts():
                if type(alert).__name__ == kind:
                    return alert

    if mode == "seed":
        with open(resume, "rb") as file:
            params = lt.read_resume_data(file.read())
        params.ti, params.save_path = lt.torrent_info(torrent), folder
    else:
        params = lt.add_torrent_params()
        params.ti, params.save_path = lt.torrent_info(torrent), folder
    # Else it waits, and turns peers away, until its queue is looked through.
    params.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
    handle = session.add_torrent(params)
    until("torrent_checked_alert")
    if mode == "check":
        begin, cpu = time.monotonic(), time.process_time()
        handle.force_recheck()
        until("torrent_checked_alert")
        took = {"seconds": time.monotonic() - begin, "cpu": time.process_time() - cpu,
                "peak_mib": peak_memory()}
        handle.save_resume_data()
        with open(resume, "wb") as file:
            file.write(lt.write_resume_data_buf(until("save_resume_data_alert").params))
        tell("checked", good=handle.status().is_seeding, **took)
        return
    if mode == "seed" and not handle.status().is_seeding:
        sys.exit("the resume data does not say that everything is there")
    tell("ready")
    if mode == "download":
        until("torrent_finished_alert")
        handle.flush_cache()
        until("cache_flushed_alert")
        tell("completed")
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
