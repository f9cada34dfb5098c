#!/usr/bin/env bash
# The one door to Quire: set up, build, run, test, measure. `./run.sh help` lists what it does.
#
# Everything that is built lies below target/ (or $CARGO_TARGET_DIR). Cargo is asked only when a source file is newer
# than the stamp of the last build, so that `exec` begins at once.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
[[ $target = /* ]] || target=$PWD/$target
state=$target/quire
host=x86_64-unknown-linux-gnu
bare=x86_64-unknown-none
kernel=$target/kernel/$bare/release/quire-kernel
launch=$target/tools/release/quire-launch
suite=$target/tools/release/quire-suite
workloads=$target/workloads

usage() {
    cat <<'END'
Usage: ./run.sh [COMMAND]

  (none)                 set up, build, boot with 4 CPUs, run the standard workloads, print a table
  exec [OPTION...] [--] PROGRAM [ARG...]
                         run a Linux program on Quire; ./run.sh exec --help lists options and exit statuses
  test                   run all tests; the last line says how many passed and failed
  loom [--all] [FILTER]  model-check the protocols; each defect must be found
  loom --orderings [--minutes M] [--jobs N] [FILTER]
                         make each atomic ordering weaker, and print which model finds it
  stress [--minutes M] [--boots N] [--seconds S] [--cpus N] [--mem MIB] [--swap SIZE] [NAME...]
                         mix the stress workloads until the time is over
  differ [--minutes M] [--seed S] [--programs N] [--cpus N] [--mem MIB] [--swap SIZE] [--program CALLS]
                         compare random programs of memory calls with Linux, step by step
  bench [--linux [PACKAGE.deb]] [--boots N] [instructions | wall | swap]...
                         measure the operations of the memory manager, and those of a Linux in the same machine:
                         Debian's 6.12, fetched with apt, or the one in the package (linux-image-6.12...-cloud-amd64)
  bench --host           measure frame allocator and segment index on the host, beside what people use
  lint                   check format and lints
  map [--crates]         draw the modules of the memory manager: docs/modules.md, or the crates: docs/crates.md
  lines                  count the lines of the core of the memory manager
  help                   this text
END
}

die() {
    echo "quire: $*" >&2
    exit 125
}

# --- Set-up ---------------------------------------------------------------------------------------------------------

# Installs the Debian packages named, or says which ones are missing.
install() {
    local sudo=()
    if ((EUID != 0)); then
        sudo=(sudo -n)
        if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
            die "missing packages; install them with: apt-get install $*"
        fi
    fi
    command -v apt-get >/dev/null || die "missing packages (Debian's names): $*"
    echo "quire: installing $*" >&2
    {
        "${sudo[@]}" apt-get -qq update || true
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o DPkg::Lock::Timeout=300 \
            install --no-install-recommends "$@"
    } >&2 </dev/null || die "apt-get could not install: $*"
}

# The tool chains: `cargo` for what runs here, and for the kernel either the same one, when it has the bare target, or
# Debian's compiler with the standard library's sources.
set_up() {
    local missing=()
    command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
    command -v gcc >/dev/null || missing+=(gcc libc6-dev)
    command -v musl-gcc >/dev/null || missing+=(musl-tools)
    command -v ld >/dev/null || missing+=(binutils)
    if ! command -v cargo >/dev/null; then
        # Debian's packages do both jobs. A newer tool chain from https://rustup.rs does as well.
        # Cargo gets the crates over https.
        missing+=(cargo-web rustc-web rust-web-src ca-certificates)
    fi
    ((${#missing[@]} == 0)) || install "${missing[@]}"
    if bare_target_of_rustup; then
        echo stable >"$state/toolchain"
        return
    fi
    [[ -x /usr/bin/rustc && -d /usr/lib/rustlib/src/rust/library/core ]] || install rustc-web rust-web-src
    [[ -d /usr/lib/rustlib/src/rust/library/core ]] || die "rust-web-src brought no sources of the standard library"
    echo debian >"$state/toolchain"
}

# Whether rustup has, or can get, the kernel's target. Where it cannot download, that is remembered.
bare_target_of_rustup() {
    command -v rustup >/dev/null || return 1
    rustup target list --installed 2>/dev/null | grep -qx $bare && return 0
    [[ ! -e $state/rustup-cannot-download ]] || return 1
    if timeout 120 rustup target add $bare </dev/null >"$state/rustup.log" 2>&1; then
        return 0
    fi
    touch "$state/rustup-cannot-download"
    return 1
}

# --- Build ----------------------------------------------------------------------------------------------------------

# fresh STAMP PATH...: nothing below the paths has changed since the stamp. A directory changes with a removed file.
fresh() {
    local stamp=$1
    shift
    [[ -e $stamp && -z $(find "$@" -newer "$stamp" -print -quit) ]]
}

# once NAME OUTPUT FUNCTION PATH...: runs the function unless OUTPUT exists and is fresh. One run at a time builds.
once() {
    local stamp=$state/$1.stamp output=$2 build=$3
    shift 3
    [[ -e $output ]] && fresh "$stamp" "$@" && return
    mkdir -p "$state"
    # No `||` behind the subshell: it would switch `set -e` off inside.
    (
        flock 9
        # Another run may have built it meanwhile.
        [[ -e $output ]] && fresh "$stamp" "$@" && exit 0
        trap '(($? == 0)) || die "not built: $build"' EXIT
        set_up_once
        touch "$stamp.new"
        $build >&2 </dev/null
        mv "$stamp.new" "$stamp"
    ) 9>"$state/lock"
}

set_up_once() {
    if [[ ! -e $state/toolchain || ! -x $(command -v qemu-system-x86_64) ]]; then
        set_up
    fi
}

cargo_in() {
    local directory=$1
    shift
    (cd "$root" && CARGO_TARGET_DIR=$target/$directory cargo "$@")
}

build_std=("-Zbuild-std=core,alloc,compiler_builtins" -Zbuild-std-features=compiler-builtins-mem)

build_kernel() {
    local flags=(build --quiet --release -p quire-kernel --target "$bare")
    if [[ $(<"$state/toolchain") = debian ]]; then
        # A stable compiler of Debian's; the variable lets it build the standard library from its own sources.
        RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 cargo_in kernel "${flags[@]}" "${build_std[@]}"
    else
        cargo_in kernel "${flags[@]}"
    fi
}

build_tools() {
    cargo_in tools build --quiet --release -p quire-launch -p quire-suite
}

# Static programs: Rust's with the host's C library inside, C's with musl and with glibc.
build_workloads() {
    local bin=$workloads/bin source name
    mkdir -p "$bin"
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-Ctarget-feature=+crt-static -Crelocation-model=static" \
        cargo_in workloads build --quiet --profile program --target $host -p quire-workloads
    for source in "$root"/tests/workloads/src/bin/*; do
        name=$(basename "$source" .rs)
        ln -f "$workloads/$host/program/$name" "$bin/$name"
    done
    for source in "$root"/tests/workloads/c/*.c; do
        name=$(basename "$source" .c)
        gcc -O2 -Wall -Wextra -static -pthread -o "$bin/$name-glibc" "$source"
        gcc -O2 -Wall -Wextra -static-pie -pthread -o "$bin/$name-pie" "$source"
        musl-gcc -O2 -Wall -Wextra -static -pthread -o "$bin/$name-musl" "$source"
    done
}

# The first process of the Linux that is measured.
build_peer() {
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-Ctarget-feature=+crt-static -Crelocation-model=static" \
        cargo_in workloads build --quiet --profile program --target $host -p quire-peer
    ln -f "$workloads/$host/program/quire-peer" "$workloads/bin/quire-peer"
}

shared=("$root/Cargo.toml" "$root/Cargo.lock" "$root/.cargo")
house=(--root "$root" --kernel "$kernel" --programs "$workloads/bin" --launch "$launch" --logs "$state/logs")

need_tools() {
    once tools "$launch" build_tools "${shared[@]}" "$root"/{mm,swapd} "$root"/tests/{launch,suite,workloads}
}

need_machine() {
    once kernel "$kernel" build_kernel "${shared[@]}" "$root"/{kernel,mm,drivers,swapd}
    need_tools
    command -v qemu-system-x86_64 >/dev/null || set_up
}

need_workloads() {
    once workloads "$workloads/bin/hello" build_workloads "$root/Cargo.toml" "$root/tests/workloads"
}

# --- Linux, to be measured beside -----------------------------------------------------------------------------------

peer=$state/linux

# Fetches the newest Linux 6.12 for cloud machines from Debian into $peer, without installing anything, and says where it is.
fetch_linux() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg name fetched
    local what="pass a package: ./run.sh bench --linux linux-image-6.12.X-cloud-amd64_....deb (Debian's, from bookworm-backports or trixie)"
    fetched=$(find "$peer" -maxdepth 1 -name 'linux-image-6.12*.deb' 2>/dev/null | sort -V | tail -n 1)
    if [[ -z $fetched ]]; then
        if [[ ! -e $keyring ]] || ! command -v apt-get >/dev/null; then
            die "cannot fetch Linux without Debian's apt and keys; $what"
        fi
        mkdir -p "$peer"/{lists,cache/archives}/partial
        echo "deb [signed-by=$keyring] http://deb.debian.org/debian bookworm-backports main" >"$peer/debian.list"
        local options=(-q -o "Dir::Etc::sourcelist=$peer/debian.list" -o "Dir::Etc::sourceparts=-"
            -o "Dir::State::lists=$peer/lists" -o "Dir::Cache=$peer/cache" -o APT::Sandbox::User=root)
        apt-get "${options[@]}" update >&2 </dev/null || die "cannot fetch Debian's list of packages; $what"
        name=$(apt-cache "${options[@]}" search --names-only '^linux-image-6\.12.*-cloud-amd64$' | cut -d' ' -f1 | sort -V | tail -n 1)
        [[ -n $name ]] || die "Debian has no package of Linux 6.12 for cloud machines any more; $what"
        (cd "$peer" && apt-get "${options[@]}" download "$name") >&2 </dev/null || die "cannot fetch $name; $what"
        fetched=$(find "$peer" -maxdepth 1 -name 'linux-image-6.12*.deb' | sort -V | tail -n 1)
    fi
    echo "$fetched"
}

# need_linux PACKAGE: unpacks it and says where. Packages of one name are one.
need_linux() {
    local package=$1 unpacked
    [[ -r $package ]] || die "$package: there is no such package"
    unpacked=$peer/$(basename "$package" .deb)
    if [[ ! -d $unpacked ]]; then
        rm -rf "$unpacked.new"
        mkdir -p "$unpacked.new"
        if command -v dpkg-deb >/dev/null; then
            dpkg-deb -x "$package" "$unpacked.new" >&2 || die "$package: not a package of Debian's"
        else
            ar p "$package" "$(ar t "$package" | grep '^data\.tar')" >"$unpacked.new/data.tar" || die "$package: not a package of Debian's"
            (cd "$unpacked.new" && tar -xf data.tar && rm data.tar) >&2 || die "$package: cannot be unpacked"
        fi
        mv "$unpacked.new" "$unpacked"
    fi
    echo "$unpacked"
}

bench() {
    if [[ ${1-} = --host ]]; then
        shift
        set_up_once
        cargo_in micro bench --quiet -p quire-micro -- "$@"
        return
    fi
    local rest=() package="" unpacked
    while (($# > 0)); do
        if [[ $1 != --linux ]]; then
            rest+=("$1")
        elif [[ ${2-} = *.deb ]]; then
            package=$2
            shift
        else
            package=$(fetch_linux)
        fi
        shift
    done
    if [[ -n $package ]]; then
        unpacked=$(need_linux "$package")
        need_workloads
        once peer "$workloads/bin/quire-peer" build_peer "$root/Cargo.toml" "$root/tests/peer"
        rest+=(--linux "$unpacked")
    fi
    run_suite bench "${rest[@]}"
}

run_suite() {
    need_machine
    need_workloads
    exec "$suite" "${house[@]}" "$@"
}

# --- Lint -----------------------------------------------------------------------------------------------------------

lint() {
    set_up_once
    local missing=() bad=0
    command -v shellcheck >/dev/null || missing+=(shellcheck)
    cargo fmt --version &>/dev/null || missing+=(rustfmt-web)
    cargo clippy --version &>/dev/null || missing+=(rust-web-clippy)
    if [[ $(<"$state/toolchain") = debian && ! -x /usr/bin/clippy-driver ]]; then
        missing+=(cargo-web rust-web-clippy)
    fi
    ((${#missing[@]} == 0)) || install "${missing[@]}"
    cd "$root"
    cargo fmt --all --check || bad=1
    cargo_in lint clippy --quiet --workspace --exclude quire-kernel --all-targets --all-features -- -D warnings || bad=1
    RUSTFLAGS="--cfg loom" cargo_in lint/loom clippy --quiet -p quire-loom --lib --bins -- -D warnings || bad=1
    local of_kernel=(clippy --quiet -p quire-kernel --target "$bare")
    if [[ $(<"$state/toolchain") = debian ]]; then
        PATH=/usr/bin:$PATH RUSTC_BOOTSTRAP=1 cargo_in lint/kernel "${of_kernel[@]}" "${build_std[@]}" -- -D warnings || bad=1
    else
        cargo_in lint/kernel "${of_kernel[@]}" -- -D warnings || bad=1
    fi
    shellcheck run.sh .ci/run || bad=1
    names_exist || bad=1
    map_is_true || bad=1
    ((bad == 0)) && echo "quire: nothing to complain about" >&2
    exit $bad
}

# Whether each model, race and rule that a comment or a page names is there; and each function (`Type::name`) and source file of a page.
# And whether mm's README has a place for each module in the order in which they are read, and CONTRIBUTING.md says what a change of it must show.
names_exist() {
    local text models races rules lost pages sources
    local list='(, (and )?| and | or )?'
    text=$(find README.md docs loom-tests {mm,swapd,kernel}/src kernel/*/src -name target -prune -o \( -name '*.rs' -o -name '*.md' \) -print0 |
        xargs -0 sed 's|^ *//[/!]* *||' | tr '\n' ' ')
    models=$(grep -rhoP '"\K[a-z][a-z-]*(?=")' loom-tests/src | sort -u)
    races=$(grep -oP '^\| \K[0-9]+(?=b? )' docs/verification.md | sort -u)
    rules=$(grep -oP '^//! \* \KE[0-9]+(?=\.)' mm/src/entry.rs | sort -u)
    mapfile -t sources < <(find ./*/ -name target -prune -o \( -name '*.rs' -o -name '*.c' -o -name '*.h' \) -print)
    mapfile -t pages < <(find ./*.md docs {mm,swapd,kernel,drivers,loom-tests}/README.md kernel/*/README.md -name orderings.md -prune -o -name '*.md' -print)
    lost=$(
        comm -23 <(named_functions "${pages[@]}") <(functions "${sources[@]}")
        comm -23 <(grep -ohP "\`\\K[a-z_0-9/-]+\\.(rs|c|h)(?=\`)" "${pages[@]}" | sed 's|^|/|' | sort -u) <(suffixes "${sources[@]}")
        comm -23 <(grep -oP "\\bmodels? (\`[a-z][a-z-]*\`$list)+" <<<"$text" | grep -oP '`\K[a-z-]+' | sort -u) <(echo "$models")
        comm -23 <(grep -oP "\\braces? ([0-9]+$list)+" <<<"$text" | grep -oP '[0-9]+' | sort -u) <(echo "$races")
        comm -23 <(grep -oP '^(pub )?mod \K\w+' mm/src/lib.rs | grep -vxE 'fake|probe' | sort -u) <(grep -oP "\`\\K[a-z_]+(?=\`)" mm/README.md | sort -u)
        comm -23 <(find mm/src -name '*.rs' | grep -vE '/(lib|fake|probe)\.rs|/audit/|/(frames|splice|build|tree)/' | sed 's|.*/||' | sort -u) <(grep -oP '[a-z_]+\.rs' CONTRIBUTING.md | sort -u)
        comm -23 <(grep -oP '\brules? \KE[0-9]+' <<<"$text" | sort -u) <(echo "$rules")
    )
    [[ -z $lost ]] || { echo "quire: named, but not there: ${lost//$'\n'/ }" >&2 && return 1; }
}

# Whether the modules of mm, of kernel/base and of kernel/unix stand on each other without a circle, and docs/modules.md shows them as they are;
# whether no circle of another crate is large, and docs/crates.md shows the crates as they are.
map_is_true() {
    local drawn
    need_tools
    drawn=$("$suite" "${house[@]}" map) || return 1
    diff -q docs/modules.md <(echo "$drawn") >/dev/null || { echo "quire: out of date: ./run.sh map >docs/modules.md" >&2 && return 1; }
    drawn=$("$suite" "${house[@]}" map --crates) || return 1
    diff -q docs/crates.md <(echo "$drawn") >/dev/null || { echo "quire: out of date: ./run.sh map --crates >docs/crates.md" >&2 && return 1; }
}

# named_functions FILE...: the functions that pages name, as Type::name; where their file comes right behind them, as Type::name@file.rs, too.
named_functions() {
    local name="\`[A-Z][A-Za-z]*::[a-z_0-9]+\`"
    {
        grep -ohP "\`\\K[A-Z][A-Za-z]*::[a-z_0-9]+(?=\`)" "$@"
        grep -ohP "$name((, | \\| | \\()$name)*(, | \\| | \\()\`[a-z_/]+\\.rs(?=\`)" "$@" |
            awk -F'`' '{ file = $NF; sub(/.*\//, "", file); for (i = 2; i < NF; i += 2) print $i "@" file }'
    } | sort -u
}

# functions FILE...: all functions of the files as Type::name and Type::name@file.rs, the type being what the impl or trait around is for.
functions() {
    awk '
        /^(pub(\([a-z]+\))? )?(unsafe )?(impl|trait)[ <]/ {
            type = $0
            sub(/ *(where .*|\{.*)?$/, "", type)
            while (gsub(/<[^<>]*>/, "", type)) {}
            sub(/^.* for /, "", type)
            sub(/:.*$/, "", type)
            sub(/^.*[^A-Za-z]/, "", type)
        }
        /^    (pub|fn|unsafe|const|extern)/ && match($0, /fn [a-z_0-9]+/) {
            name = type "::" substr($0, RSTART + 3, RLENGTH - 3)
            file = FILENAME
            sub(/.*\//, "", file)
            print name
            print name "@" file
        }' "$@" | sort -u
}

# suffixes FILE...: the files by each of the paths that lead to them from a directory above: /mm/src/page.rs, /src/page.rs, /page.rs.
suffixes() {
    printf '%s\n' "$@" | awk '{ while (sub(/^[^\/]*\//, "")) print "/" $0 }' | sort -u
}

# --- Lines ----------------------------------------------------------------------------------------------------------

# Lines of code of the core, without comments, blank lines and attributes: the heart, then with each group the sum so far, and at last
# what the proof needs besides.
lines() {
    local total=0
    count_lines heart walk sweep flush edit fault
    count_lines protocol entry fork slow place
    count_lines list tree/{mod,node,edit,copy,publish} list publish
    count_lines edits error map inplace
    total=0
    count_lines "besides" claims arena space link bare blank mv cut whole retire rcu shootdown wait
}

# count_lines NAME FILE...: files of mm, and the sum with all before.
count_lines() {
    local name=$1 file count
    shift
    for file; do
        count=$(sed '/^ *\(\/\/\|#\[\|$\)/d' "$root/mm/src/$file.rs" | wc -l)
        printf '%6d  mm/src/%s.rs\n' "$count" "$file"
        total=$((total + count))
    done
    printf '%6d  %s\n\n' "$total" "$name"
}

# --- Doors ----------------------------------------------------------------------------------------------------------

mkdir -p "$state"
command=${1-}
(($# == 0)) || shift
case $command in
    "") run_suite workloads ;;
    exec)
        need_machine
        exec "$launch" --kernel "$kernel" --logs "$state/logs" "$@"
        ;;
    test) run_suite test "$@" ;;
    loom)
        need_tools
        exec "$suite" "${house[@]}" loom "$@"
        ;;
    bench) bench "$@" ;;
    stress) run_suite stress "$@" ;;
    differ) run_suite differ "$@" ;;
    lint)
        (($# == 0)) || { usage >&2 && exit 2; }
        lint
        ;;
    lines) lines ;;
    map)
        need_tools
        exec "$suite" "${house[@]}" map "$@"
        ;;
    help | -h | --help) usage ;;
    *)
        echo "quire: unknown command or option: $command" >&2
        usage >&2
        exit 2
        ;;
esac
