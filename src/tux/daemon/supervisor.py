"""From a configuration to a running server."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import msgspec

from tux._engine import Engine, KernelLog, Roots
from tux.config import listen
from tux.config.app import App
from tux.config.cgi import Cgi
from tux.config.compile import Compiled, compile_config
from tux.config.schema import Config, Server
from tux.daemon import descriptors, privileges, systemd, upstreams, worker
from tux.daemon.cpus import usable_cpus
from tux.daemon.generation import SIGNALS, Plan
from tux.daemon.listeners import Listeners, open_listeners
from tux.daemon.logs import AccessLog, error_log
from tux.daemon.privileges import Account
from tux.daemon.processes import Supervisor, check_alone
from tux.daemon.worker import Identity
from tux.errors import USAGE, StartError
from tux.http.compress import compressors
from tux.planner.errors import PLAIN, Errors
from tux.planner.hidden import Hidden
from tux.planner.loop import Planner, canned_answers
from tux.planner.rules import CgiRule, StaticRule

if TYPE_CHECKING:
    from tux.daemon.apps import Apps
    from tux.kernel.load import Map
    from tux.kernel.tier import KernelTier

_KEY_BYTES = 16
"""Of the keyed hash over requests: new at each start, so that nobody can prepare requests that collide."""

FIXED = ("listen", "workers", "access_log")
"""Keys of `[server]` that a reload leaves as they are: its sockets and files are opened once."""

logger = logging.getLogger("tux.supervisor")


def run(
    config: Config,
    ready_fd: int | None = None,
    *,
    own: Sequence[str] = (),
    reread: Callable[[], Config] | None = None,
) -> int:
    """Serve what the configuration says until SIGTERM or SIGINT (a second one ends it at once); returns the exit code,
    see `Supervisor.run`. `ready_fd` gets the URLs, one a line, as soon as they are served, and is closed.
    `own` are files of Tux itself, such as the configuration file, which are never served wherever they lie. `reread`:
    the configuration as it is by now, for SIGHUP; without it, a reload starts all anew by the same one.

    To be called by the main thread of a process that has no other. StartError: it could not start."""
    _check_ready_fd(ready_fd)
    check_alone()
    server = config.server
    workers = usable_cpus() if server.workers == "auto" else server.workers
    notify, handed_over = systemd.take_notifier(), systemd.take_sockets()
    privileges.raise_descriptor_limit()  # workers inherit it, and what they can take is known here
    worker.preload()
    with error_log(), contextlib.ExitStack() as stack:
        plan = _plan(config, own)
        log = stack.enter_context(contextlib.closing(AccessLog(server.access_log)))
        addresses = [listen.parse(text) for text in server.listen]
        listeners = stack.enter_context(open_listeners(addresses, workers, handed_over))
        tier = _start_tier(config, listeners, log)
        return Supervisor(
            listeners=listeners,
            log=log,
            plan=plan,
            workers=workers,
            ready_fd=ready_fd,
            tier=tier,
            reread=functools.partial(_reread, config, reread, own, tier),
            notify=notify,
        ).run()


def _plan(config: Config, own: Sequence[str]) -> Plan:
    """What the configuration asks for. StartError: it cannot be, as things are now."""
    server = config.server
    compiled = compile_config(config)
    groups = upstreams.resolve(compiled.upstreams, compiled.roots)
    account = privileges.account_for(server.user)
    folders = [os.fsdecode(root) for root in compiled.roots]
    folders += [app.dir for _, app in compiled.apps if not isinstance(app, Cgi)]
    privileges.check_roots(folders, account)
    if account.uid == 0:
        logger.warning("workers run as root; --user NAME makes them run as somebody else")
    cpus = usable_cpus()
    processes = [cpus if app.workers == "auto" else app.workers for _, app in compiled.apps]
    if any(isinstance(rule, StaticRule) and rule.compress for rule in compiled.rules):
        compressors()  # here: workers may not be able to read the files of libraries
    limits = descriptors.fit(compiled.limits, groups, processes)
    job = worker.Job(
        account=account,
        grace_ms=round(server.grace * 1000),
        make_engine=functools.partial(
            _make_engine, compiled, limits, groups, server.log_format, os.urandom(_KEY_BYTES)
        ),
        make_planner=functools.partial(_make_planner, compiled),
        own=frozenset(_identities(own)),
        groups=groups,
    )
    return Plan(functools.partial(worker.serve, job=job), server.grace, _make_apps(compiled, server, account))


def _reread(running: Config, reread: Callable[[], Config] | None, own: Sequence[str], tier: KernelTier | None) -> Plan:
    """What the configuration asks for by now; where that needs a restart, all stays as it is running. StartError."""
    if reread is None:
        return _plan(running, own)
    new = reread()
    if tier is not None and new.server.proxy_protocol:
        raise StartError("proxy_protocol needs a restart: the kernel tier is at work, and would not know the clients")
    for key in FIXED if tier is None else (*FIXED, "log_format"):
        if getattr(new.server, key) != getattr(running.server, key):
            logger.warning('reload: "%s" has changed, which needs a restart; it stays as it is', key)
    if new.kernel != running.kernel:
        logger.warning("reload: [kernel] has changed, which needs a restart; it stays as it is")
    if tier is not None:
        new = msgspec.structs.replace(
            new, server=msgspec.structs.replace(new.server, log_format=running.server.log_format)
        )
        tier.limit_idleness(new.server.limits.idle_timeout)
    return _plan(new, own)


def _make_apps(compiled: Compiled, server: Server, account: Account) -> Apps | None:
    """The applications, not yet started; None where there are none. StartError."""
    if not compiled.apps:
        return None
    # Only here: a server of files need not wait for what applications need.
    from tux.apps import serve
    from tux.apps.cgi.options import CgiOptions
    from tux.apps.options import options_of
    from tux.daemon.apps import Apps

    cpus = usable_cpus()
    options = [options_of(name, table, compiled.routes, cpus=cpus, grace=server.grace) for name, table in compiled.apps]
    apps = Apps(options, functools.partial(serve.main, account=account), SIGNALS)
    if server.reload:
        from tux.apps.sources import sources
        from tux.daemon.reload import Watcher

        code = sources(one for one in options if not isinstance(one, CgiOptions))
        apps.watcher = Watcher(code, apps.reload, SIGNALS)
    return apps


def _start_tier(config: Config, listeners: Listeners, log: AccessLog) -> KernelTier | None:
    """The kernel tier, at work; None where it is not to be used. StartError."""
    if config.kernel.mode == "off":
        return None
    if config.server.proxy_protocol:  # the programs would take its headers for the first requests of connections
        if config.kernel.mode == "on":
            raise StartError('the kernel tier cannot be "on" with "proxy_protocol": it knows clients by their packets')
        logger.info("the kernel tier is off: connections begin with headers of the PROXY protocol")
        return None
    # Only here: most servers run where it is not possible, and need not wait for its modules.
    from tux.kernel import tier
    from tux.kernel.choice import choose
    from tux.kernel.host import ThisHost

    sockets = [listener.sockets[0] for listener in tier.tcp_listeners(listeners.items).values()]
    addresses = [sock.getsockname()[0] for sock in sockets]
    choice = choose(config.kernel, addresses, ThisHost())
    if not choice.interfaces:
        logger.log(logging.DEBUG if choice.usual else logging.INFO, "the kernel tier is off: %s", choice.reason)
        return None
    for warning in choice.warnings:
        logger.warning("the kernel tier: %s", warning)
    log_format = config.server.log_format

    def make_log(records: Map, fd: int) -> KernelLog:
        return KernelLog(records.fd, records.max_entries, fd, log_format)

    started = tier.start(config, choice, listeners.items, log_fd=log.fd, make_log=make_log)
    if started is not None:
        logger.info("the kernel tier answers on %s", ", ".join(interface.name for interface in choice.interfaces))
    return started


def _make_engine(
    compiled: Compiled,
    limits: dict[str, int],
    groups: Sequence[upstreams.Group],
    log_format: str,
    key: bytes,
    log_fd: int,
) -> Engine:
    engine = Engine(
        key=key,
        significant=compiled.significant,
        roots=compiled.roots,
        routes=compiled.table,
        limits=limits,
        log_fd=log_fd,
        log_format=log_format,
    )
    roots = Roots(compiled.roots)
    for number, rules in enumerate(compiled.pages):
        errors = Errors(rules.pages, rules.headers, roots=roots, media=rules.media) if number else PLAIN
        for status, (head, body) in canned_answers(errors).items():
            engine.canned(status, head, body, number)
    engine.trust(compiled.trusted, compiled.proxy_protocol)
    upstreams.add_to(engine, groups)
    for _, app in compiled.apps:
        engine.app(
            queue=app.queue,
            queue_timeout_ms=round(app.queue_timeout * 1000),
            accel=app.accel,
            sendfile_root=upstreams.root_number(compiled.roots, app.sendfile_root),
            # A module has its path for itself, and other words for "not for me".
            hands_on_404=isinstance(app, App),
        )
    return engine


def _make_planner(compiled: Compiled, engine: Engine, own: AbstractSet[Identity]) -> Planner:
    scripts = [compiled.roots[rule.root] for rule in compiled.rules if isinstance(rule, CgiRule)]
    return Planner(
        engine.port,
        Roots(compiled.roots, Hidden(scripts).covers if scripts else None),
        compiled.table,
        compiled.rules,
        significant=frozenset(compiled.significant),
        own=own,
        pages=compiled.pages,
    )


def _identities(paths: Sequence[str]) -> Iterator[Identity]:
    for path in paths:
        with contextlib.suppress(OSError):  # gone since it was read: nothing to protect
            found = os.stat(path)
            yield (found.st_dev, found.st_ino)


def _check_ready_fd(fd: int | None) -> None:
    try:
        if fd is not None:
            os.fstat(fd)
    except (OSError, OverflowError):
        raise StartError(f"--ready-fd {fd} is not an open descriptor", USAGE) from None
