#compdef gpumon
# Completion of gpumon for zsh. Have it in every shell: write it to a file _gpumon in a directory of $fpath,
#   gpumon completion zsh > ~/.local/share/zsh/site-functions/_gpumon
# or, after compinit, in ~/.zshrc:
#   eval "$(gpumon completion zsh)"

_gpumon() {
    local kind value help files=
    local -a full parts
    while IFS=$'\t' read -r kind value help; do
        case $kind in
            file|folder) files=$kind ;;
            part) parts+=("${value//:/\\:}${help:+:$help}") ;;
            word) full+=("${value//:/\\:}${help:+:$help}") ;;
        esac
    done < <(_GPUMON_COMPLETE=zsh ${~words[1]} "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    if [[ -n $files && $PREFIX == --*=* ]]; then
        compset -P '*='
    fi
    case $files in
        file) _files ;;
        folder) _files -/ ;;
    esac
    (( $#full )) && _describe 'gpumon' full
    (( $#parts )) && _describe 'gpumon' parts -S ''
    return 0
}

if [[ $funcstack[1] == _gpumon ]]; then
    _gpumon "$@"
else
    compdef _gpumon gpumon
fi
