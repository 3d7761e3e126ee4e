{"syntax": "x/y:1"}
