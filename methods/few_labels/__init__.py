"""An answer for a person with a folder of pictures and few labels: what to use, how sure it is, which pictures to label next.

`look` reads the folder and `label_log` the labels given by clicks; `features` are those of a frozen encoder, kept by content;
`probes` read them, `trials` are what needs training; `left_out` and `uncertainty` say how good they are;
`suggest` which pictures to label, `oddities` which labels and pictures to look at; `report` is the page that says it all, and
`labelling` the page to label on. `answer` puts them together.
"""
