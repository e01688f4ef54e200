# lib.sh - what the scripts of this folder share. Source it from the top of the tree.

# need PACKAGE...: installs those Debian packages that are missing; scripts that run at the same time take turns.
need() {
    local missing=() one sudo=sudo
    for one; do
        dpkg-query -W -f '${db:Status-Status}\n' "$one" 2> /dev/null | grep -qx installed || missing+=("$one")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" -ne 0 ] || sudo=
    mkdir -p build
    (
        flock 9
        export DEBIAN_FRONTEND=noninteractive
        [ -n "$(find build/.apt-updated -mmin -600 2> /dev/null)" ] || $sudo apt-get update -qq
        touch build/.apt-updated
        $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
    ) 9> build/.apt-lock
}

# need_command COMMAND PACKAGE: installs the package where the command is missing
need_command() {
    command -v "$1" > /dev/null || need "$2"
}

# step TITLE COMMAND...: a heading with the seconds so far, then the command
step() {
    printf '\n### %s (%s s)\n' "$1" "$SECONDS"
    shift
    "$@"
}

# newer_node x64|arm64: the path of npm's node for that machine, in build/; needs npm
newer_node() {
    local folder=build/node-$1 name=node-linux-$1@24.21.0
    mkdir -p build
    (
        flock 8
        [ -x "$folder/bin/node" ] || {
            mkdir -p "$folder"
            tar xzf "build/$(cd build && npm pack --silent "$name")" -C "$folder" --strip-components=1 package/bin/node
        }
    ) 8> build/.node-lock
    printf '%s\n' "$PWD/$folder/bin/node"
}
