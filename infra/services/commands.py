"""`thumbwheel services`: Kafka, PostgreSQL and Redis on loopback ports of this machine, for the full profile."""

from typing import Annotated

import typer

from infra.settings import SERVICES_FILE, home_directory

app = typer.Typer(help="Kafka, PostgreSQL and Redis of this machine: start, stop, status.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def start(
    any_ports: Annotated[
        bool, typer.Option("--any-ports", help="The first time on free ports instead of the usual ones.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start what does not run yet, and write down where it is for `thumbwheel up --profile full`."""
    from infra.console import err, out, print_json
    from infra.services.local import PORTS_FILE, free_ports, local_services, write_ports, write_settings

    home = home_directory()
    if any_ports and not (home / "services" / PORTS_FILE).is_file():
        write_ports(home, free_ports())
    servers = local_services(home)
    servers.start(lambda service: err().print(f"{service.name} answers on port {service.port}", markup=False))
    write_settings(home, servers)
    if as_json:
        return print_json({service.name: service.port for service in servers})
    return out().print(f"settings  {home / SERVICES_FILE}", markup=False)


@app.command()
def stop(as_json: Json = False) -> None:
    """Stop them. What they hold stays."""
    from infra.console import out, print_json
    from infra.services.local import local_services

    stopped = local_services(home_directory()).stop()
    if as_json:
        return print_json({"stopped": stopped})
    return out().print(f"stopped {', '.join(stopped)}" if stopped else "nothing ran", markup=False)


@app.command()
def status(as_json: Json = False) -> None:
    """Which of them run. Exit code 1 where one does not."""
    from infra.console import print_json, print_table
    from infra.services.local import local_services

    told = {
        service.name: {"port": service.port, "pid": record.pid if (record := service.record) else None}
        for service in local_services(home_directory())
    }
    if as_json:
        print_json(told)
    else:
        print_table(("service", "port", "pid"), [(name, said["port"], said["pid"]) for name, said in told.items()])
    if not all(said["pid"] for said in told.values()):
        raise typer.Exit(1)
