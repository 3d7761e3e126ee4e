// syntax=a
FROM a
