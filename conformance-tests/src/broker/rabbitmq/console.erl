%% Reads "ID EXPRESSIONS." lines from standard input, evaluates each in a process of its own, and prints
%% "@console ID {ok,VALUE}" or "@console ID {error,REASON}". The end of the input ends the node.
Answer = fun(Id, Text) ->
    Reply = try
        {ok, Tokens, _} = erl_scan:string(Text),
        {ok, Expressions} = erl_parse:parse_exprs(Tokens),
        {value, Value, _} = erl_eval:exprs(Expressions, []),
        {ok, Value}
    catch
        _:Reason -> {error, Reason}
    end,
    io:format("~n@console ~ts ~0p~n", [Id, Reply])
end,
Loop = fun Next() ->
    case io:get_line("") of
        Line when is_list(Line) ->
            [Id, Text] = string:split(Line, " "),
            spawn(fun() -> Answer(Id, Text) end),
            Next();
        _ ->
            erlang:halt(1)
    end
end,
spawn(Loop).
