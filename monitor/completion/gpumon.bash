# Completion of gpumon for bash, 4.4 or later. Have it in every shell:
#   gpumon completion bash > ~/.local/share/bash-completion/completions/gpumon
# or, without the package bash-completion, in ~/.bashrc:
#   eval "$(gpumon completion bash)"

_gpumon() {
    local kind value help current=$2 prefix=
    COMPREPLY=()
    [[ $current == [\'\"]* ]] && current=${current:1}
    while IFS=$'\t' read -r kind value help; do
        case $kind in
            file) compopt -o filenames; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current") ;;
            folder) compopt -o filenames; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -d -- "$current") ;;
            part) compopt -o nospace; COMPREPLY+=("$value") ;;
            word) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_LINE=$COMP_LINE COMP_POINT=$COMP_POINT _GPUMON_WORD=$2 _GPUMON_COMPLETE=bash "${1/#~\//$HOME/}" 2>/dev/null)
}

complete -F _gpumon gpumon
