# escape=x
# escape=\
# check=bad
# syntax=a
# Syntax=b

FROM a
