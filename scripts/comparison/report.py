"""What is told: the machine, tables, ratios."""

import datetime
import os
import platform
import statistics
import subprocess

from .measure import SCALES
from .stage import file_system


def short(count):
    for unit, step in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if count % step == 0:
            return f"{count // step}{unit}"
    return str(count)


def title(about):
    words = [about["what"]]
    if "connections" in about:
        words.append(f"{about['connections']} connection{'s' * (about['connections'] > 1)}")
    words += [about[name] for name in ("cache", "order") if name in about]
    words += [f"{about['files']} file{'s' * (about['files'] > 1)}", f"pieces of {short(about['piece_length'])}"]
    return ", ".join(words)


def summary(runs, name):
    values = [run[name] for run in runs if name in run]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio_of(one, other):
    # A short run may take no tick of processor time.
    return one / other if other else float("nan")


def show(about, clients):
    print(f"\n{title(about)}\n  {'client':31}{'CPU s/GB (min..max)':26}{'GB/s (min..max)':26}{'peak MiB':>9}"
          f"{'generator CPU s/GB':>20}", flush=True)
    for name, told in clients.items():
        cell = lambda key: "{median:.3f} ({min:.3f}..{max:.3f})".format(**told[key])
        peak = told["peak_mib"]["median"]
        generator = told.get("generator_cpu_seconds_per_gb", {"median": float("nan")})["median"]
        print(f"  {name:31}{cell('cpu_seconds_per_gb'):26}{cell('gb_per_second'):26}{peak or float('nan'):9.0f}{generator:20.3f}")
        # Then GB/s, and all that depends on who waits for whom, is of the generator.
        if generator >= told["cpu_seconds_per_gb"]["median"]:
            print(f"  warning: the generator costs as much a byte as {name}, or more", flush=True)
    scaled(clients)
    ours = [name for name in clients if name == "seedring"]
    others = [name for name in clients if not name.startswith("seedring")]
    if ours and others:
        for key, best, word in (("cpu_seconds_per_gb", min, "CPU s/GB"), ("gb_per_second", max, "GB/s")):
            other = best(others, key=lambda name: clients[name][key]["median"])
            ratio = ratio_of(clients["seedring"][key]["median"], clients[other][key]["median"])
            print(f"  seedring = {ratio:.2f} x the best other ({other}) in {word}")


def markdown(scenarios):
    """All in one table, the rows to be named by hand: medians of CPU seconds a GB with the least and the most, GB/s, peak MiB."""
    names = list(dict.fromkeys(name for scenario in scenarios for name in scenario["clients"]))
    rows = [["CPU s/GB; GB/s; MiB", *names, "ratio to the best other"], ["---"] * (len(names) + 2)]
    for scenario in scenarios:
        clients = scenario["clients"]
        median = lambda name, key: clients[name][key]["median"]
        cpu = lambda name: "{median:.2f} ({min:.2f} – {max:.2f})".format(**clients[name]["cpu_seconds_per_gb"])
        cell = lambda name: f"{cpu(name)}; {median(name, 'gb_per_second'):.1f}; {median(name, 'peak_mib'):.0f}"
        others = [median(name, "cpu_seconds_per_gb") for name in clients if not name.startswith("seedring")]
        ours = "seedring" in clients and others
        ratio = f"{ratio_of(median('seedring', 'cpu_seconds_per_gb'), min(others)):.2f}" if ours else ""
        rows.append([title(scenario), *(cell(name) if name in clients else "" for name in names), ratio])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def scaled(clients):
    """What two cores are to one: as measured, and as they would be with a generator that costs nothing. And what two programs are
    that share nothing."""
    one, *others = (clients.get(name) for name in SCALES)
    median = lambda told, key: told[key]["median"]
    for name, told in clients.items():
        if "operations_per_mb" in told:
            print(f"  {name}: {median(told, 'operations_per_mb'):.1f} operations a MB in {median(told, 'batches_per_mb'):.1f} "
                  f"batches, {median(told, 'switches_per_mb'):.1f} context switches")
    for what, two in zip(("two cores", "two cores, one generator", "two programs", "crosswise"), others):
        if one and two:
            speed = ratio_of(median(two, "gb_per_second"), median(one, "gb_per_second"))
            cpu = ratio_of(2 * median(one, "cpu_seconds_per_gb"), median(two, "cpu_seconds_per_gb"))
            print(f"  {what} = {speed:.2f} x one core in GB/s, {cpu:.2f} x by CPU (2 x the CPU s/GB of one / that of two)")


def machine(args, root):
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    with open("/proc/sys/net/ipv4/tcp_congestion_control") as file:
        congestion = file.read().strip()
    commit = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"], capture_output=True, text=True)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "cpu": model,
            "cores": os.cpu_count(), "memory_gib": round(memory / (1 << 30), 1), "kernel": platform.release(),
            "file_system": file_system(args.work), "congestion_control": congestion, "commit": commit.stdout.strip(),
            "size": args.size, "seeding_bytes": args.bytes, "requests": args.requests, "rounds": args.rounds}
