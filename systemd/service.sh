#!/bin/sh
# Puts Digitdrop in place as a systemd service, upgrades it, takes it away. Called by make; systemd/README.md explains.
set -eu
umask 022

usage="usage: service.sh install [NAME] | remove [NAME]   (PURGE=1 removes the data too)"
app=/opt/digitdrop etc=/etc/digitdrop data=/var/lib/digitdrop
repo=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

say() { printf 'digitdrop: %s\n' "$*"; }
die() { printf 'digitdrop: %s\n' "$*" >&2; exit 1; }

python() {  # one that the service can see: homes are hidden from it
    for candidate in ${PYTHON:-} /usr/bin/python3 /usr/local/bin/python3 /usr/bin/python3.1? /usr/local/bin/python3.1?; do
        path=$(command -v "$candidate") || continue
        case $(readlink -f "$path") in /home/*|/root/*|/run/user/*) continue ;; esac
        "$path" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        printf '%s\n' "$path"
        return
    done
    die "needs Python 3.11 or newer with venv, outside of homes; on Debian: apt install python3-venv"
}

units() { systemctl list-units --state=active --plain --no-legend --full 'digitdrop.service' 'digitdrop@*.service' | awk '{print $1}'; }

settings() {  # the commented configuration, with the folders and the metrics of this service: NAME
    sed -e "s|^inbox: inbox  *|inbox: $data${1:+/$1}/inbox  |" \
        -e "s|^outbox: outbox  *|outbox: $data${1:+/$1}/outbox  |" \
        -e "s|^model: model  *|# model: model  |" \
        -e "s|^metrics: null  *|metrics: /run/digitdrop/${1:-digitdrop}.prom  |" \
        -e "s|^# Relative folders are .*|# Relative folders are relative to this file. The network is the one that came with the program.|" \
        "$repo/config.yaml"
}

install_service() {
    name=${1:-} unit=digitdrop${1:+@$1}.service config=$etc/${1:-config}.yaml

    # The new release is made beside the one in use, and tried, before anything is switched.
    python=$(python)
    release=$app/releases/$(date -u +%Y%m%dT%H%M%SZ)-$$
    trap 'rm -rf "$release"' EXIT
    trap 'exit 1' INT TERM HUP
    mkdir -p "$app/releases"
    say "making $release with $python (0.5 GB, a minute or two) …"
    "$python" -m venv "$release"
    "$release/bin/python" -m pip --disable-pip-version-check install --quiet "$repo"
    mkdir -p "$release/share/doc/digitdrop"
    cp "$repo/README.md" "$repo/LICENSE" "$repo/CHANGELOG.md" "$repo"/docs/*.md "$release/share/doc/digitdrop/"
    (cd "$release" && MPLCONFIGDIR="$release/.fonts" bin/digitdrop read "$repo/samples/7_pencil_ruled.png" > /dev/null) || die "the new release cannot read a sample: nothing was changed"

    # Whom it runs as, and where.
    install -D -m 644 "$repo/systemd/sysusers.conf" /etc/sysusers.d/digitdrop.conf
    install -D -m 644 "$repo/systemd/tmpfiles.conf" /etc/tmpfiles.d/digitdrop.conf
    systemd-sysusers /etc/sysusers.d/digitdrop.conf
    systemd-tmpfiles --create /etc/tmpfiles.d/digitdrop.conf
    if [ -n "$name" ]; then
        sed -e "/\\/run\\/\\|\\/var\\/cache\\//d" -e "s|$data/|$data/$name/|" -e "s|^d $data  |d $data/$name |" "$repo/systemd/tmpfiles.conf" > "/etc/tmpfiles.d/digitdrop-$name.conf"
        systemd-tmpfiles --create "/etc/tmpfiles.d/digitdrop-$name.conf"
    fi
    mkdir -p "$etc"
    if [ -e "$config" ]; then
        say "keeping $config"
    else
        settings "$name" > "$config.new" && mv "$config.new" "$config"
    fi
    for file in "$etc"/*.yaml; do
        code=0
        found=$(MPLCONFIGDIR=/var/cache/digitdrop setpriv --reuid=digitdrop --regid=digitdrop --init-groups \
            "$release/bin/digitdrop" check --config "$file" 2>&1) || code=$?
        printf '%s\n' "$found" | grep -v '^fit ' || true
        # 78: the service would not start with it.
        [ "$code" -ne 78 ] || die "$file is not fit for the new release; put that right, and run this again. What ran goes on."
    done

    # Switch. What runs goes on with the old release until it is restarted, which loses nothing.
    for file in digitdrop.service digitdrop@.service; do
        install -m 644 "$repo/systemd/$file" "/etc/systemd/system/$file"
    done
    previous=$(readlink "$app/current" || true)
    switch_to "$release"
    mkdir -p /usr/local/bin
    ln -sfn "$app/current/bin/digitdrop" /usr/local/bin/digitdrop
    systemctl daemon-reload
    systemctl enable --quiet "$unit"
    if ! restart_all "$unit"; then
        [ -n "$previous" ] || { trap - EXIT; die "it does not start; what went wrong stands above"; }
        switch_to "$previous"
        restart_all "$unit" || die "neither the new nor the old release starts; what went wrong stands above"
        die "the new release does not start, the old one runs again; what went wrong stands above"
    fi
    trap - EXIT
    find "$app/releases" -mindepth 1 -maxdepth 1 ! -path "$release" -exec rm -rf {} +
}

switch_to() {  # RELEASE
    ln -sfn "$1" "$app/current.new" && mv -T "$app/current.new" "$app/current"
}

restart_all() {  # UNIT, and the others that run
    systemctl restart "$1" || { systemctl status --no-pager --lines 20 "$1" >&2; return 1; }
    for each in $(units | grep -vxF "$1"); do
        systemctl restart "$each" || { systemctl status --no-pager --lines 20 "$each" >&2; return 1; }
    done
    for each in $(units); do
        say "$each runs: $(systemctl show -P StatusText "$each")"
    done
}

clear_out() {  # a folder that may be a mount point
    [ ! -d "$1" ] || find "$1" -xdev -mindepth 1 -delete
    rmdir "$1" 2> /dev/null || true
}

remove_service() {
    name=${1:-}
    if [ -n "$name" ]; then
        # A folder of that name in $data alone may be anybody's.
        [ -e "$etc/$name.yaml" ] || [ -e "/etc/tmpfiles.d/digitdrop-$name.conf" ] ||
            die "no such service: '$name' has no settings in $etc; 'systemctl list-units --all digitdrop@*' names those there are"
        systemctl disable --now --quiet "digitdrop@$name.service" || true
        rm -f "/etc/tmpfiles.d/digitdrop-$name.conf"
        if [ "${PURGE:-}" = 1 ]; then
            clear_out "$data/$name"
            rm -f "$etc/$name.yaml"
            say "removed the inbox $name and its data"
        else
            say "removed the inbox $name; its data stay in $data/$name, its settings in $etc/$name.yaml (PURGE=1 removes them too)"
        fi
        return
    fi
    for unit in digitdrop.service $(systemctl list-units --all --plain --no-legend 'digitdrop@*.service' | awk '{print $1}'); do
        systemctl disable --now --quiet "$unit" || true
    done
    rm -f /etc/systemd/system/digitdrop.service /etc/systemd/system/digitdrop@.service \
        /etc/tmpfiles.d/digitdrop.conf /etc/tmpfiles.d/digitdrop-*.conf /etc/sysusers.d/digitdrop.conf /usr/local/bin/digitdrop
    systemctl daemon-reload
    rm -rf "$app" /run/digitdrop /var/cache/digitdrop
    if [ "${PURGE:-}" = 1 ]; then
        clear_out "$data"
        rm -rf "$etc" /etc/systemd/system/digitdrop.service.d /etc/systemd/system/digitdrop@*.service.d
        if getent passwd digitdrop > /dev/null; then
            gpasswd --members '' digitdrop  # or userdel leaves the group
            userdel digitdrop
        fi
        say "removed, with its data"
    else
        say "removed; scans and deliveries stay in $data, settings in $etc (PURGE=1 removes them too)"
    fi
}

case ${1:-} in install|remove) ;; *) die "$usage" ;; esac
case ${2:-} in *[!A-Za-z0-9_-]*|inbox|outbox|config) die "'$2' cannot be the name of an inbox; letters, digits, - and _ can" ;; esac
[ "$(id -u)" = 0 ] || die "needs root: sudo make $1-service"
[ -d /run/systemd/system ] || die "systemd does not run here; 'make run' starts a watcher without it"
"$1_service" "${2:-}"
