"""The embedding job on a Ray cluster: the same rows as `library.embed`, from many machines.

`storage` opens folders and object stores, `inputs` lists what is to be embedded, `decoder` and `child` read files in
processes of their own, `stages` is what runs on the cluster, `checkpoint` what a run leaves behind, `job` puts them
together, and `cost` says what a million pictures cost.
"""
