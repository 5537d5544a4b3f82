"""Dense tasks over pictures, folders, videos and cameras: a job that writes files and can be stopped at any moment.

`plan` says what is worked on and under which name, `state` what is finished, `job` runs; `segment`, `depth` and
`detect` write the results of their task, the last with `exports` for other programs. Nothing is imported here:
detection alone needs torchvision.
"""
