# Completion of gpumon for fish, 3.1 or later. Have it in every shell:
#   gpumon completion fish > ~/.config/fish/completions/gpumon.fish

function __gpumon_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct | string unescape)
    test -z "$current"; and set current (commandline -ct | string trim -c '"\'')
    set -l program $words[1]
    set -e words[1]
    for line in (env _GPUMON_COMPLETE=fish $program $words "$current" 2>/dev/null)
        set -l cells (string split -m 2 \t -- $line)
        switch $cells[1]
            case file
                __fish_complete_path (string replace -r '^--[^=]*=' '' -- $current)
            case folder
                __fish_complete_directories (string replace -r '^--[^=]*=' '' -- $current)
            case '*'
                printf '%s\t%s\n' $cells[2] $cells[3]
        end
    end
end

complete -c gpumon -f -a '(__gpumon_complete)'
