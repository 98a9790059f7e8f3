def main():
    print("e")
